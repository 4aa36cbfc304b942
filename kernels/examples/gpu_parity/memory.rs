//! Buffers that share memory, retired buffers and launches beside a capture, on two backends in lockstep.

use super::kernels::{Buffer, BufferSpec, DType, Error, FRESH_BYTE, Graph, Launch, Op, Role, Stream, View};
use super::random::{Floats, Random};

/// Elements of the largest buffer.
const MOST: usize = 200;

/// A buffer that both streams have, with the same identity.
struct Pair {
    buffer: Buffer,
    live: bool,
}

/// Two streams that are told the same.
struct Lockstep<'a> {
    streams: [&'a mut Stream; 2],
    pairs: Vec<Pair>,
    graphs: Vec<[Graph; 2]>,
    compared: usize,
}

impl Lockstep<'_> {
    /// The same call on both; that one succeeds and the other does not is a difference.
    fn both<T>(&mut self, call: impl Fn(&mut Stream) -> Result<T, Error>) -> Result<Option<[T; 2]>, Error> {
        let [first, second] = &mut self.streams;
        match (call(first), call(second)) {
            (Ok(a), Ok(b)) => Ok(Some([a, b])),
            // A failure of the device itself is no answer.
            (_, Err(error @ Error::Cuda(_))) => Err(error),
            (Err(_), Err(_)) => Ok(None),
            (a, b) => {
                let which = |ok| if ok { "accepted" } else { "refused" };
                Err(Error::Cuda(format!("{} by one, {} by the other", which(a.is_ok()), which(b.is_ok()))))
            }
        }
    }

    fn pick(&self, random: &mut Random) -> Option<usize> {
        (!self.pairs.is_empty()).then(|| random.below(self.pairs.len()))
    }

    /// A launch that adds one part of a buffer to another: often of one that shares memory with it.
    fn addition(&self, random: &mut Random) -> Option<Launch> {
        let (a, b) = (&self.pairs[self.pick(random)?].buffer, &self.pairs[self.pick(random)?].buffer);
        let count = 1 + random.below(a.shape[0].min(b.shape[0]));
        let mut part =
            |buffer: &Buffer| View::whole(buffer).rows(random.below(buffer.shape[0] - count + 1), count);
        Launch::new(Op::ResidualAdd, vec![part(a), part(b)], vec![]).ok()
    }

    fn act(&mut self, random: &mut Random) -> Result<(), Error> {
        let spec = |elements| BufferSpec::new("b", DType::F32, &[elements], Role::State);
        let chosen = self.pick(random);
        let made = match (random.below(9), chosen) {
            (0, _) | (_, None) => {
                let elements = 1 + random.below(MOST);
                self.both(|stream| stream.allocate(spec(elements)))?
            }
            (1, Some(i)) => {
                let donor = self.pairs[i].buffer.clone();
                let from = 2 * random.below(donor.shape[0].div_ceil(2));
                let elements = 1 + random.below(donor.shape[0] - from);
                self.both(|stream| stream.allocate_in(spec(elements), donor.id, 4 * from))?
            }
            (2, Some(i)) => {
                let id = self.pairs[i].buffer.id;
                self.both(|stream| stream.retire(id))?;
                self.pairs[i].live = false;
                None
            }
            (3, Some(i)) if random.one_in(4) => {
                let id = self.pairs.swap_remove(i).buffer.id;
                self.both(|stream| stream.free(id))?;
                None
            }
            (4, Some(_)) => {
                self.capture(random)?;
                None
            }
            (5, Some(_)) if !self.graphs.is_empty() => {
                let graph = random.below(self.graphs.len());
                let [first, second] = &mut self.streams;
                let [a, b] = &self.graphs[graph];
                match (first.launch_graph(a), second.launch_graph(b)) {
                    (Ok(()), Ok(())) | (Err(Error::NoBuffer(_)), Err(Error::NoBuffer(_))) => None,
                    (_, Err(error)) | (Err(error), _) => return Err(error),
                }
            }
            (6, Some(_)) => {
                if let Some(launch) = self.addition(random) {
                    self.both(|stream| stream.launch(&launch))?;
                }
                None
            }
            (_, Some(i)) => {
                let view = View::whole(&self.pairs[i].buffer);
                let bytes = Floats::Plain.bytes(DType::F32, view.len(), random);
                self.both(|stream| stream.write(&view, &bytes))?;
                None
            }
        };
        self.pairs.extend(made.map(|[buffer, _]| Pair { buffer, live: true }));
        Ok(())
    }

    /// A capture of a few launches, with some beside it.
    fn capture(&mut self, random: &mut Random) -> Result<(), Error> {
        self.both(Stream::begin_capture)?;
        for _ in 0..1 + random.below(3) {
            let Some(launch) = self.addition(random) else { continue };
            if random.one_in(2) {
                self.both(|stream| stream.launch_aside(&launch))?;
            } else {
                self.both(|stream| stream.launch(&launch))?;
            }
        }
        let captured = self.both(Stream::end_capture)?;
        self.graphs.extend(captured);
        Ok(())
    }

    /// Whether all buffers hold the same on both.
    fn same(&mut self) -> Result<bool, Error> {
        let mut same = true;
        for i in 0..self.pairs.len() {
            let view = View::whole(&self.pairs[i].buffer);
            if let Some([a, b]) = self.both(|stream| stream.read(&view))? {
                self.compared += a.len();
                same &= a == b;
            }
        }
        Ok(same)
    }

    fn finish(mut self) -> Result<usize, Error> {
        for pair in std::mem::take(&mut self.pairs) {
            self.both(|stream| stream.free(pair.buffer.id))?;
        }
        let [first, second] = self.streams;
        for [a, b] in self.graphs {
            first.destroy_graph(a)?;
            second.destroy_graph(b)?;
        }
        Ok(self.compared)
    }
}

/// Runs `cases` random sequences on both streams, which have made the same allocations so far; prints a line.
pub(crate) fn compare(streams: [&mut Stream; 2], cases: u64, seed: u64) -> Result<bool, Error> {
    let [first, second] = streams;
    let (mut differing, mut compared, mut retired) = (0, 0, 0);
    for case in 0..cases {
        let mut random = Random(seed << 32 ^ 0x6d65_6d00 ^ case);
        let mut both = Lockstep {
            streams: [&mut *first, &mut *second],
            pairs: Vec::new(),
            graphs: Vec::new(),
            compared: 0,
        };
        let mut same = true;
        for _ in 0..40 {
            both.act(&mut random)?;
            same &= both.same()?;
        }
        differing += u64::from(!same);
        retired += both.pairs.iter().filter(|pair| !pair.live).count();
        compared += both.finish()?;
    }
    let planted = planted([first, second])?;
    println!(
        "memory: {cases} sequences, {compared} bytes, {retired} buffers retired, {differing} differing; planted {}",
        if planted { "found" } else { "MISSED" }
    );
    Ok(differing == 0 && planted)
}

/// A byte that only one of them is told has to show.
fn planted(streams: [&mut Stream; 2]) -> Result<bool, Error> {
    let mut both = Lockstep { streams, pairs: Vec::new(), graphs: Vec::new(), compared: 0 };
    let made = both.both(|stream| stream.allocate(BufferSpec::new("b", DType::F32, &[4], Role::State)))?;
    both.pairs.extend(made.map(|[buffer, _]| Pair { buffer, live: true }));
    let view = View::whole(&both.pairs[0].buffer);
    both.streams[1].write(&view, &[FRESH_BYTE ^ 1; 16])?;
    let found = !both.same()?;
    both.finish()?;
    Ok(found)
}
