//! Traces of other programs, attached to on a GPU: `traces/samples/attached/`.

use std::path::Path;

use serde_json::Value;
use twinstep_tests::{root, twinstep};
use twinstep_traces::{Item, Trace};

fn json(arguments: &[&str], status: i32) -> Value {
    let run = twinstep(Path::new(&root()), arguments).expect(status);
    serde_json::from_str(&run.stdout).unwrap()
}

fn sample(name: &str) -> String {
    format!("traces/samples/attached/{name}.twin")
}

/// A C program on the run-time library of CUDA 12: nothing was watched, and its graph is there node by node.
#[test]
fn a_c_program_on_cuda_12_has_its_graph_and_its_steps() {
    let file = sample("cuda12");
    assert_eq!(json(&["verify", "--json", &file], 0)["ok"], true);
    let info = json(&["info", "--json", &file], 0);
    assert_eq!((&info["steps"], &info["complete"]), (&5.into(), &true.into()));
    assert_eq!(info["graphs"][0]["nodes"], 2);
    let trace = Trace::open(&root().join(&file)).unwrap();
    let graph = &trace.graphs()[0];
    let program = trace.program(graph.program).unwrap();
    let [
        Item::Fill { target: Some(filled), pattern, bytes: 2048, .. },
        Item::Copy { source: Some(from), target: Some(to), bytes: 4096, .. },
    ] = &program.items[..]
    else {
        panic!("{program:?}")
    };
    assert_eq!((filled.name.as_str(), pattern.as_slice()), ("cuda.0", &[0x5a][..]));
    assert_eq!((from.name.as_str(), to.name.as_str()), ("cuda.0", "cuda.1"));
}

/// PyTorch, a feedback buffer rebound at a new request: the graph reads the old one, whose memory is gone. The file
/// ends in the middle of the run, as that of a program that was killed.
#[test]
fn a_rebound_feedback_buffer_is_named_by_check() {
    let file = sample("graph-rebound");
    let verify = json(&["verify", "--json", &file], 0);
    assert_eq!((&verify["ok"], &verify["complete"]), (&true.into(), &false.into()));
    let info = json(&["info", "--json", &file], 0);
    assert_eq!((&info["steps"], &info["mode"]), (&2.into(), &"graph".into()));
    let names: Vec<&str> =
        info["buffers"].as_array().unwrap().iter().filter_map(|b| b["name"].as_str()).collect();
    for name in ["last_codes", "position", "logits", "kv_cache.0"] {
        assert!(names.iter().any(|n| n.split('@').next() == Some(name)), "{name}: {names:?}");
    }
    let check = json(&["check", "--json", &file], 1);
    let [finding] = &check["findings"].as_array().unwrap()[..] else { panic!("{check:#}") };
    assert_eq!((&finding["check"], &finding["step"]), (&"use-after-free".into(), &2.into()));
    let message = finding["message"].as_str().unwrap();
    assert!(message.contains("binds last_codes@0, whose memory was given back"), "{message}");
}

/// Kernels of a graph have demangled names, parameters, and operands by the names of buffers.
#[test]
fn nodes_of_a_pytorch_graph_bind_named_buffers() {
    let trace = Trace::open(&root().join(sample("graph-rebound"))).unwrap();
    let graph = &trace.graphs()[0];
    let program = trace.program(graph.program).unwrap();
    assert_eq!(program.items.len(), 28);
    let Item::Opaque(first) = &program.items[0] else { panic!("{:?}", program.items[0]) };
    assert!(
        first.kernel.starts_with("void at::native::vectorized_elementwise_kernel<2, "),
        "{}",
        first.kernel
    );
    assert_eq!(
        first.parameters.iter().map(Vec::len).collect::<Vec<_>>(),
        [4, 8, 24],
        "an int, a functor, three pointers"
    );
    let bound: Vec<(u32, &str)> =
        first.operands.iter().map(|(parameter, _, view)| (*parameter, view.name.as_str())).collect();
    assert!(bound.contains(&(2, "last_codes")), "{bound:?}");
}
