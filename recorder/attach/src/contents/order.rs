//! A topological order of nodes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Edges between places in an order.
type Edges = Vec<(u32, u32)>;

/// The nodes `0..count` in an order that goes along all edges, the lowest number first where there is a choice; and
/// the edges between *places* in that order, none where they are a simple chain. What lies on a cycle (a driver's
/// graph has none) comes last.
pub fn topological(count: usize, edges: &[(usize, usize)]) -> (Vec<usize>, Edges) {
    let mut after = vec![Vec::new(); count];
    let mut before = vec![0usize; count];
    for &(from, to) in edges.iter().filter(|&&(from, to)| from < count && to < count) {
        after[from].push(to);
        before[to] += 1;
    }
    let mut ready: BinaryHeap<Reverse<usize>> = (0..count).filter(|&n| before[n] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(count);
    let mut placed = vec![None; count];
    while let Some(Reverse(n)) = ready.pop() {
        placed[n] = Some(order.len());
        order.push(n);
        for &next in &after[n] {
            before[next] -= 1;
            if before[next] == 0 {
                ready.push(Reverse(next));
            }
        }
    }
    for n in 0..count {
        if placed[n].is_none() {
            placed[n] = Some(order.len());
            order.push(n);
        }
    }
    let place = |n: usize| placed.get(n).copied().flatten().and_then(|p| u32::try_from(p).ok());
    let mut edges: Edges = edges.iter().filter_map(|&(from, to)| Some((place(from)?, place(to)?))).collect();
    edges.sort_unstable();
    edges.dedup();
    let chain = edges.len() + 1 == count.max(1)
        && edges.iter().enumerate().all(|(i, &(a, b))| (a as usize, b as usize) == (i, i + 1));
    if chain {
        edges.clear();
    }
    (order, edges)
}

#[cfg(test)]
mod tests {
    use super::topological;

    #[test]
    fn a_chain_in_any_order_has_no_edges() {
        assert_eq!(topological(3, &[(2, 0), (0, 1)]), (vec![2, 0, 1], vec![]));
        assert_eq!(topological(1, &[]), (vec![0], vec![]));
        assert_eq!(topological(0, &[]), (vec![], vec![]));
    }

    #[test]
    fn a_fork_keeps_its_edges_as_places() {
        let (order, edges) = topological(4, &[(3, 1), (3, 0), (1, 2), (0, 2), (0, 2)]);
        assert_eq!(order, [3, 0, 1, 2]);
        assert_eq!(edges, [(0, 1), (0, 2), (1, 3), (2, 3)]);
    }

    #[test]
    fn nodes_side_by_side_are_no_chain_and_a_cycle_ends() {
        assert_eq!(topological(2, &[]), (vec![0, 1], vec![]), "no edges to tell");
        assert_eq!(topological(3, &[(1, 2), (2, 1)]).0, [0, 1, 2]);
    }
}
