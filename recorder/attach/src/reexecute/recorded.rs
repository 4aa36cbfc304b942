//! What a launch was given and what it left, from the trace that is being written.

use twinstep_traces::{BufferId, GraphId, Item, SnapshotId, StepRecord, Trace};

use super::State;

/// A recorded graph launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    pub graph: GraphId,
    pub before: SnapshotId,
    pub after: SnapshotId,
}

impl Recorded {
    /// The `launch`-th graph launch of a step, from 0.
    ///
    /// # Errors
    /// One line: there is no such step, launch or snapshot.
    pub fn find(trace: &Trace, request: u32, step: u32, launch: u32) -> Result<Self, String> {
        let at = trace.find_step(request, step).map_err(|error| error.to_string())?;
        let at = at.ok_or_else(|| format!("no step {request}:{step} is recorded (yet)"))?;
        let record = trace.step(at).map_err(|error| error.to_string())?;
        let program = trace.program(record.program).map_err(|error| error.to_string())?;
        Self::in_step(&record, &program.items, launch)
    }

    fn in_step(record: &StepRecord, items: &[Item], launch: u32) -> Result<Self, String> {
        let launches: Vec<(usize, GraphId)> = items
            .iter()
            .enumerate()
            .filter_map(|(at, item)| match item {
                Item::GraphLaunch { graph, .. } => Some((at, *graph)),
                _ => None,
            })
            .collect();
        let here = format!("step {}:{}", record.request, record.step);
        let (at, graph) = launches
            .get(launch as usize)
            .copied()
            .ok_or_else(|| format!("{here} has {} graph launches, no number {launch}", launches.len()))?;
        // A graph that was changed in place has another number than its points.
        let own = |name: &str| name.starts_with("graph.");
        let alone = launches.len() == 1 && !record.points.iter().any(|point| own(&point.point));
        let point = |moment: &str| {
            let at = at as u32 + u32::from(moment == "after");
            let found = record.points.iter().find(|point| match alone {
                true => point.point == format!("step.{moment}"),
                false => point.position == at && own(&point.point) && point.point.ends_with(moment),
            });
            let found = found.map(|point| point.snapshot);
            found.ok_or_else(|| {
                format!("{here} has no snapshot {moment} launch {launch}, of graph {}", graph.0)
            })
        };
        Ok(Self { graph, before: point("before")?, after: point("after")? })
    }
}

/// All that a snapshot covers.
///
/// # Errors
/// The trace can't be read.
pub fn state(trace: &Trace, snapshot: SnapshotId) -> Result<State, String> {
    let covered = trace.covered(snapshot).map_err(|error| error.to_string())?;
    let mut state = State::new();
    for buffer in covered {
        if let Some(bytes) = trace.read_buffer(snapshot, buffer).map_err(|error| error.to_string())? {
            state.insert(buffer, bytes);
        }
    }
    Ok(state)
}

/// A buffer's name.
pub fn name(trace: &Trace, buffer: BufferId) -> String {
    trace.buffer(buffer).map_or_else(|| format!("buffer {}", buffer.0), |record| record.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use twinstep_traces::{PointRecord, ProgramId, StepKind};

    /// Points with position and snapshot.
    fn step(points: &[(&str, u32, u32)]) -> StepRecord {
        let point = |&(point, position, snapshot): &(&str, u32, u32)| PointRecord {
            point: point.to_owned(),
            position,
            snapshot: SnapshotId(snapshot),
        };
        StepRecord {
            kind: StepKind::Decode,
            request: 1,
            step: 2,
            rank: 0,
            program: ProgramId(0),
            host_writes: Vec::new(),
            host_reads: Vec::new(),
            points: points.iter().map(point).collect(),
        }
    }

    fn launches(graphs: &[u32]) -> Vec<Item> {
        graphs.iter().map(|&g| Item::GraphLaunch { graph: GraphId(g), stream: 0 }).collect()
    }

    #[test]
    fn the_only_launch_has_the_points_of_the_step() {
        let record = step(&[("step.before", 0, 4), ("step.after", 1, 5)]);
        let found = Recorded::in_step(&record, &launches(&[3]), 0);
        assert_eq!(found, Ok(Recorded { graph: GraphId(3), before: SnapshotId(4), after: SnapshotId(5) }));
        let none = Recorded::in_step(&record, &launches(&[3]), 1).unwrap_err();
        assert_eq!(none, "step 1:2 has 1 graph launches, no number 1");
    }

    #[test]
    fn of_several_each_has_its_own_and_the_second_of_a_graph_is_numbered() {
        let record = step(&[
            ("step.before", 0, 0),
            ("graph.3.before", 0, 1),
            ("graph.3.after", 1, 2),
            ("graph.3#2.before", 2, 3),
            ("graph.3#2.after", 3, 4),
        ]);
        let items = launches(&[3, 4, 3]);
        let found = |launch| Recorded::in_step(&record, &items, launch).map(|r| (r.before.0, r.after.0));
        assert_eq!((found(0), found(2)), (Ok((1, 2)), Ok((3, 4))));
        assert_eq!(found(1), Err("step 1:2 has no snapshot before launch 1, of graph 4".to_owned()));
        // The second time it had been changed in place, and is of another number.
        let changed = Recorded::in_step(&record, &launches(&[3, 4, 5]), 2).unwrap();
        assert_eq!((changed.graph.0, changed.before.0, changed.after.0), (5, 3, 4));
    }

    #[test]
    fn a_launch_inside_a_bracket_has_points_of_its_own() {
        let record = step(&[
            ("step.before", 0, 0),
            ("graph.0.before", 0, 1),
            ("graph.0.after", 1, 2),
            ("step.after", 1, 3),
        ]);
        let found = Recorded::in_step(&record, &launches(&[0]), 0);
        assert_eq!(found, Ok(Recorded { graph: GraphId(0), before: SnapshotId(1), after: SnapshotId(2) }));
    }
}
