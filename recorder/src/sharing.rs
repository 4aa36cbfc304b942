//! Buffers that share memory: what one name means in bytes of the others.

use twinstep_kernels::BufferId;

/// A buffer whose memory others share.
struct Part {
    buffer: BufferId,
    /// In whose memory it lies, and from which byte on.
    root: BufferId,
    offset: usize,
    bytes: usize,
}

/// All buffers that share memory with another; none in a correct engine.
#[derive(Default)]
pub(crate) struct Sharing(Vec<Part>);

impl Sharing {
    /// Notes that a buffer lies at the start of another one, which has `donor_bytes`.
    pub(crate) fn add(
        &mut self,
        (buffer, bytes): (BufferId, usize),
        (donor, donor_bytes): (BufferId, usize),
    ) {
        let host = self.part(donor).map(|part| (part.root, part.offset));
        let (root, offset) = host.unwrap_or((donor, 0));
        if host.is_none() {
            self.0.push(Part { buffer: donor, root, offset, bytes: donor_bytes });
        }
        self.0.push(Part { buffer, root, offset, bytes });
    }

    fn part(&self, buffer: BufferId) -> Option<&Part> {
        self.0.iter().find(|part| part.buffer == buffer)
    }

    /// The buffers that lie in the same memory as this one, itself included; none where it has its own.
    pub(crate) fn group(&self, buffer: BufferId) -> Vec<BufferId> {
        let root = self.part(buffer).map(|part| part.root);
        self.0.iter().filter(|part| Some(part.root) == root).map(|part| part.buffer).collect()
    }

    /// Bytes of a buffer, and the same bytes in all others.
    pub(crate) fn names(&self, buffer: BufferId, start: usize, end: usize) -> Vec<(BufferId, usize, usize)> {
        let mut names = vec![(buffer, start, end)];
        let Some(own) = self.part(buffer) else { return names };
        let (start, end) = (own.offset + start, own.offset + end);
        for other in self.0.iter().filter(|part| part.root == own.root && part.buffer != buffer) {
            let (from, to) = (start.max(other.offset), end.min(other.offset + other.bytes));
            if from < to {
                names.push((other.buffer, from - other.offset, to - other.offset));
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_a_name_in_every_buffer_that_holds_them() {
        let [a, b, c, d] = [0, 1, 2, 3].map(BufferId);
        let mut sharing = Sharing::default();
        sharing.add((b, 8), (a, 100));
        sharing.add((c, 20), (a, 100));
        assert_eq!(sharing.names(a, 4, 50), [(a, 4, 50), (b, 4, 8), (c, 4, 20)]);
        assert_eq!(sharing.names(c, 8, 9), [(c, 8, 9), (a, 8, 9)], "beyond the end of b");
        assert_eq!(sharing.names(d, 1, 2), [(d, 1, 2)], "memory of its own");
        assert_eq!((sharing.group(b), sharing.group(d)), (vec![a, b, c], vec![]));
    }
}
