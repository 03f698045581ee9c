//! Circles in graphs of names.

use std::collections::{BTreeMap, VecDeque};

/// For each node that leads back to itself, the shortest way there: it begins and ends with the node.
pub(super) fn circles<K: Ord + Clone>(edges: &BTreeMap<K, Vec<K>>) -> BTreeMap<K, Vec<K>> {
    edges.keys().filter_map(|start| Some((start.clone(), circle(edges, start)?))).collect()
}

fn circle<K: Ord + Clone>(edges: &BTreeMap<K, Vec<K>>, start: &K) -> Option<Vec<K>> {
    let mut came_from: BTreeMap<&K, &K> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(here) = queue.pop_front() {
        for next in edges.get(here).into_iter().flatten() {
            if next == start {
                let mut way = vec![start.clone(), here.clone()];
                let mut at = here;
                while at != start {
                    let before = came_from.get(at)?;
                    way.push((*before).clone());
                    at = before;
                }
                if here == start {
                    way.pop();
                    way.push(start.clone());
                }
                way.reverse();
                return Some(way);
            }
            if !came_from.contains_key(next) {
                came_from.insert(next, here);
                queue.push_back(next);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circles_are_found_with_their_way() {
        let edges: BTreeMap<_, _> = [
            ("a", vec!["b"]),
            ("b", vec!["c"]),
            ("c", vec!["a", "d"]),
            ("d", vec![]),
            ("e", vec!["e"]),
            ("f", vec!["a"]),
        ]
        .into();
        let found = circles(&edges);
        assert_eq!(found["a"], ["a", "b", "c", "a"]);
        assert_eq!(found["b"], ["b", "c", "a", "b"]);
        assert_eq!(found["e"], ["e", "e"]);
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), ["a", "b", "c", "e"]);
    }
}
