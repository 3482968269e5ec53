//! Trees that grow from a stream: items become nodes of a fixed width, nodes become nodes, until one is left.

use std::mem;

/// The open end of a tree. Holds at most one node's worth of items for each level.
pub(crate) struct Levels<T> {
    width: usize,
    levels: Vec<Vec<T>>,
}

impl<T> Levels<T> {
    /// A tree without items, whose nodes have at most `width` children, 2 or more.
    pub(crate) const fn new(width: usize) -> Self {
        Self { width, levels: Vec::new() }
    }

    /// Adds an item. `node` makes a node of its children; it is called for those that are complete.
    pub(crate) fn push(&mut self, item: T, node: &mut dyn FnMut(Vec<T>) -> T) {
        self.push_at(0, item, node);
    }

    /// Makes the nodes that are not full as well, and returns the root: the item itself where there was only one,
    /// `None` where there was none. All items are equally deep.
    pub(crate) fn finish(mut self, node: &mut dyn FnMut(Vec<T>) -> T) -> Option<T> {
        for index in 0.. {
            let mut level = mem::take(self.levels.get_mut(index)?);
            if index + 1 == self.levels.len() && level.len() == 1 {
                return level.pop();
            }
            self.push_at(index + 1, node(level), node);
        }
        None
    }

    fn push_at(&mut self, first: usize, mut item: T, node: &mut dyn FnMut(Vec<T>) -> T) {
        for level in &mut self.levels[first..] {
            if level.len() < self.width {
                level.push(item);
                return;
            }
            // Not when it became full: a full node without a neighbour is the root.
            item = node(mem::replace(level, vec![item]));
        }
        self.levels.push(vec![item]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree of the first `count` numbers in width 3, written with brackets.
    fn tree(count: u32) -> Option<String> {
        let mut node = |children: Vec<String>| format!("({})", children.join(""));
        let mut levels = Levels::new(3);
        for number in 0..count {
            levels.push(format!("{number:x}"), &mut node);
        }
        levels.finish(&mut node)
    }

    #[test]
    fn every_item_is_equally_deep() {
        assert_eq!(tree(0), None);
        assert_eq!(tree(1).unwrap(), "0");
        assert_eq!(tree(2).unwrap(), "(01)");
        assert_eq!(tree(3).unwrap(), "(012)");
        assert_eq!(tree(4).unwrap(), "((012)(3))");
        assert_eq!(tree(9).unwrap(), "((012)(345)(678))");
        assert_eq!(tree(10).unwrap(), "(((012)(345)(678))((9)))");
        assert_eq!(tree(12).unwrap(), "(((012)(345)(678))((9ab)))");
    }
}
