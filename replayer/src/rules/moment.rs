//! One step of a trace as rules see it: its snapshots and what names mean there.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use twinstep_traces::{BufferId, DType, Item, StepRecord, Trace};

use super::expression::BufferName;
use crate::ReplayError;
use crate::diff::snapshot_of;
use crate::selection::resolve;
use crate::value::Value;

/// Elements of a buffer, and of any array that a rule makes.
pub(super) const ELEMENTS_MAX: u64 = 1 << 20;

/// A buffer's elements at a snapshot.
#[derive(Debug)]
pub(super) struct Recorded {
    /// With its generation.
    pub(super) name: String,
    pub(super) shape: Vec<u64>,
    pub(super) dtype: DType,
    pub(super) bytes: Vec<u8>,
}

impl Recorded {
    /// The element at a flat index.
    pub(super) fn element(&self, flat: u64) -> Option<Value> {
        let size = self.dtype.size();
        let start = usize::try_from(flat.checked_mul(size)?).ok()?;
        Value::from_bytes(self.dtype, self.bytes.get(start..start.checked_add(size as usize)?)?)
    }
}

/// A buffer, or why it cannot be looked at.
type Loaded = Result<Rc<Recorded>, String>;

/// One step.
pub(super) struct Moment<'a> {
    trace: &'a Trace,
    pub(super) index: usize,
    pub(super) step: StepRecord,
    names: RefCell<BTreeMap<String, Result<BufferId, String>>>,
    loaded: RefCell<BTreeMap<(bool, BufferId), Loaded>>,
}

impl<'a> Moment<'a> {
    /// A step; `last` is one before it from which what names mean can be taken over.
    pub(super) fn new(
        trace: &'a Trace,
        index: usize,
        step: StepRecord,
        last: Option<&Moment<'_>>,
    ) -> Result<Moment<'a>, ReplayError> {
        let mut names = BTreeMap::new();
        if let Some(last) = last.filter(|last| last.index < index)
            && !binds(trace, &step)?
        {
            let mut same = true;
            for between in last.index..index {
                same = same && !binds(trace, &trace.step(between)?)?;
            }
            if same {
                names = last.names.borrow().clone();
            }
        }
        Ok(Moment { trace, index, step, names: RefCell::new(names), loaded: RefCell::default() })
    }

    /// The buffer that a name means at this step, at the point asked for.
    pub(super) fn load(&self, name: &BufferName) -> Result<Loaded, ReplayError> {
        let known = self.names.borrow().get(&name.name).cloned();
        let id = match known {
            Some(id) => id,
            None => {
                let id = match resolve(self.trace, &self.step, &name.name) {
                    Ok(id) => Ok(id),
                    Err(ReplayError::Selection(what)) => Err(what),
                    Err(other) => return Err(other),
                };
                self.names.borrow_mut().insert(name.name.clone(), id.clone());
                id
            }
        };
        let id = match id {
            Ok(id) => id,
            Err(what) => return Ok(Err(what)),
        };
        let key = (name.point.after, id);
        if let Some(loaded) = self.loaded.borrow().get(&key) {
            return Ok(loaded.clone());
        }
        let loaded = self.read(name, id)?;
        self.loaded.borrow_mut().insert(key, loaded.clone());
        Ok(loaded)
    }

    fn read(&self, name: &BufferName, id: BufferId) -> Result<Loaded, ReplayError> {
        let point = if name.point.after { "step.after" } else { "step.before" };
        let Some(record) = self.trace.buffer(id) else {
            return Ok(Err(format!("no buffer `{}`", name.name)));
        };
        let elements = record.bytes / record.dtype.size();
        if elements > ELEMENTS_MAX {
            return Ok(Err(format!("`{}` has {elements} elements, more than {ELEMENTS_MAX}", name.name)));
        }
        let missing = || Err(format!("`{}` was not recorded at {point}", name.name));
        let Some(snapshot) = snapshot_of(&self.step, point) else { return Ok(missing()) };
        let Some(bytes) = self.trace.read_buffer(snapshot, id)? else { return Ok(missing()) };
        let with_generation = format!("{}@{}", record.name, record.generation);
        let shape = record.shape.clone();
        Ok(Ok(Rc::new(Recorded { name: with_generation, shape, dtype: record.dtype, bytes })))
    }
}

/// Whether a step changes what names mean, in itself or for later ones.
fn binds(trace: &Trace, step: &StepRecord) -> Result<bool, ReplayError> {
    let program = trace.program(step.program)?;
    Ok(program.items.iter().any(|item| matches!(item, Item::Allocate { .. } | Item::Free { .. })))
}
