//! A robust random cut forest over shingles: how odd is the course of the last eight values?
//!
//! S. Guha, N. Mishra, G. Roy, O. Schrijvers, "Robust random cut forest based anomaly detection on streams", ICML 2016. Each
//! of [`TREES`] trees holds a fading sample of [`LEAVES`] shingles, cut at random in proportion to the sides of their
//! bounding box. How odd a shingle is: how many others it would displace, in the mean over all cuts that could part it from
//! them, which needs no insertion, over what is usual. What that means is read off the tail of its own past. some 30 µs an update, 160 KiB a series.

// one index into the sides of several boxes
#![allow(clippy::needless_range_loop)]

use serde::{Deserialize, Serialize};

use super::boxed::{Found, Model};
use crate::{drift::Random, words::number};

const TREES: usize = 16;
const LEAVES: usize = 64;
/// Values of a shingle.
const SHINGLE: usize = 8;
/// Shingles that a sample fades over, once it is full.
const MEMORY: u32 = 1_000;
/// Values that the unit is learned from, and shingles before anything is said.
const FIRST: u32 = 30;
const SAYS_FROM: u32 = 128;
const NONE: u16 = u16::MAX;

type Point = [f32; SHINGLE];

/// A cut with its two sides, or a leaf, which has none.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Node {
    parent: u16,
    left: u16,
    right: u16,
    side: u16,
    cut: f32,
    leaves: u16,
    low: Point,
    high: Point,
}

/// One tree. Free places are chained through `parent`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Tree {
    root: u16,
    free: u16,
    /// Places of the leaves.
    leaves: Vec<u16>,
    nodes: Vec<Node>,
}

/// One series' forest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Forest {
    count: u32,
    level: f64,
    unit: f64,
    last: Point,
    random: Random,
    odd: f32,
    /// How odd shingles usually are.
    usual: f32,
    trees: Vec<Tree>,
}

impl Tree {
    fn new() -> Self {
        Self {
            root: NONE,
            free: NONE,
            leaves: Vec::with_capacity(LEAVES),
            nodes: Vec::with_capacity(2 * LEAVES),
        }
    }

    fn node(&self, at: u16) -> &Node {
        &self.nodes[usize::from(at)]
    }

    fn node_mut(&mut self, at: u16) -> &mut Node {
        &mut self.nodes[usize::from(at)]
    }

    #[allow(clippy::cast_possible_truncation)] // at most 128 nodes
    fn place(&mut self, node: Node) -> u16 {
        if self.free == NONE {
            self.nodes.push(node);
            return (self.nodes.len() - 1) as u16;
        }
        let at = self.free;
        self.free = self.node(at).parent;
        *self.node_mut(at) = node;
        at
    }

    fn give_back(&mut self, at: u16) {
        let free = self.free;
        self.node_mut(at).parent = free;
        self.free = at;
    }

    /// How many of the sample a point would displace, in the mean.
    fn displaced(&self, point: &Point) -> f32 {
        let (mut at, mut stays, mut sum) = (self.root, 1.0_f32, 0.0_f32);
        while at != NONE {
            let node = self.node(at);
            let (mut outside, mut all) = (0.0_f32, 0.0_f32);
            for k in 0..SHINGLE {
                let (low, high) = (node.low[k], node.high[k]);
                outside += (low - point[k]).max(0.0) + (point[k] - high).max(0.0);
                all += high - low;
            }
            let parted = if outside > 0.0 { outside / (outside + all) } else { 0.0 };
            sum += stays * parted * f32::from(node.leaves);
            stays *= 1.0 - parted;
            if node.left == NONE || stays < 1e-4 {
                break;
            }
            at = if point[usize::from(node.side)] <= node.cut {
                node.left
            } else {
                node.right
            };
        }
        sum
    }

    fn leaf(point: &Point) -> Node {
        Node {
            parent: NONE,
            left: NONE,
            right: NONE,
            side: 0,
            cut: 0.0,
            leaves: 1,
            low: *point,
            high: *point,
        }
    }

    #[allow(clippy::cast_possible_truncation)] // sides of a shingle
    fn insert(&mut self, point: &Point, random: &mut Random) {
        let leaf = self.place(Self::leaf(point));
        self.leaves.push(leaf);
        if self.root == NONE {
            self.root = leaf;
            return;
        }
        let mut at = self.root;
        loop {
            let node = *self.node(at);
            let (mut low, mut high, mut all) = (node.low, node.high, 0.0);
            for k in 0..SHINGLE {
                (low[k], high[k]) = (low[k].min(point[k]), high[k].max(point[k]));
                all += high[k] - low[k];
            }
            // a cut of the box with the point in it
            let mut left = random.unit() as f32 * all;
            let mut side = 0;
            while side + 1 < SHINGLE && left > high[side] - low[side] {
                left -= high[side] - low[side];
                side += 1;
            }
            let cut = (low[side] + left).clamp(low[side], high[side]);
            let parts = cut < node.low[side] || (cut >= node.high[side] && point[side] > node.high[side]);
            if parts || node.left == NONE {
                // copies of one point are parted by a cut that puts the new one to the left
                let (side, cut) = if parts { (side, cut) } else { (0, point[0]) };
                let first = point[side] <= cut;
                let branch = self.place(Node {
                    parent: node.parent,
                    left: if first { leaf } else { at },
                    right: if first { at } else { leaf },
                    side: side as u16,
                    cut,
                    leaves: node.leaves + 1,
                    low,
                    high,
                });
                self.replace(node.parent, at, branch);
                self.node_mut(at).parent = branch;
                self.node_mut(leaf).parent = branch;
                return;
            }
            let here = self.node_mut(at);
            (here.low, here.high, here.leaves) = (low, high, node.leaves + 1);
            at = if point[usize::from(node.side)] <= node.cut {
                node.left
            } else {
                node.right
            };
        }
    }

    /// Puts `new` where `old` was under its parent, or at the root.
    fn replace(&mut self, parent: u16, old: u16, new: u16) {
        if parent == NONE {
            self.root = new;
        } else if self.node(parent).left == old {
            self.node_mut(parent).left = new;
        } else {
            self.node_mut(parent).right = new;
        }
    }

    fn remove(&mut self, index: usize) {
        let leaf = self.leaves.swap_remove(index);
        let parent = self.node(leaf).parent;
        self.give_back(leaf);
        if parent == NONE {
            self.root = NONE;
            return;
        }
        let branch = *self.node(parent);
        let sibling = if branch.left == leaf { branch.right } else { branch.left };
        self.replace(branch.parent, parent, sibling);
        self.node_mut(sibling).parent = branch.parent;
        self.give_back(parent);
        let mut at = branch.parent;
        while at != NONE {
            let node = *self.node(at);
            let (left, right) = (*self.node(node.left), *self.node(node.right));
            let here = self.node_mut(at);
            here.leaves = left.leaves + right.leaves;
            for k in 0..SHINGLE {
                here.low[k] = left.low[k].min(right.low[k]);
                here.high[k] = left.high[k].max(right.high[k]);
            }
            at = node.parent;
        }
    }
}

impl Forest {
    pub(crate) fn new() -> Self {
        Self {
            count: 0,
            level: 0.0,
            unit: 0.0,
            last: [0.0; SHINGLE],
            random: Random::new(0x5EED),
            odd: 0.0,
            usual: 0.0,
            trees: Vec::new(),
        }
    }
}

impl Model for Forest {
    const BYTES: usize =
        size_of::<Self>() + TREES * (size_of::<Tree>() + 2 * LEAVES * size_of::<Node>() + LEAVES * size_of::<u16>());

    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // shingles are of single precision
    fn step(&mut self, value: f64, rests: bool) -> Found {
        let value = value.clamp(-1e30, 1e30);
        self.count = self.count.saturating_add(1);
        if self.count <= FIRST {
            let n = f64::from(self.count);
            let off = value - self.level;
            self.level += off / n;
            self.unit += ((value - self.level).abs() - self.unit) / n;
            if self.count == FIRST {
                self.unit = self.unit.max(0.005 * self.level.abs()).max(1e-30);
                self.trees = (0..TREES).map(|_| Tree::new()).collect();
            }
            return Found::NOTHING;
        }
        self.last.copy_within(1.., 0);
        self.last[SHINGLE - 1] = ((value - self.level) / self.unit).clamp(-1e4, 1e4) as f32;
        if self.count < FIRST + SHINGLE as u32 {
            return Found::NOTHING;
        }
        let point = self.last;
        let odd: f32 = self.trees.iter().map(|tree| tree.displaced(&point)).sum();
        self.odd = odd / TREES as f32;
        if !rests {
            let seen = (self.count - FIRST - SHINGLE as u32) as f32 + 1.0;
            let most = if seen < 100.0 { f32::MAX } else { 5.0 * self.usual };
            self.usual += (self.odd.min(most) - self.usual) / seen.min(500.0);
            for tree in &mut self.trees {
                let full = tree.leaves.len() >= LEAVES;
                if full {
                    if self.random.below(MEMORY) >= LEAVES as u32 {
                        continue;
                    }
                    let goes = self.random.below(LEAVES as u32);
                    tree.remove(goes as usize);
                }
                tree.insert(&point, &mut self.random);
            }
        }
        if self.count < SAYS_FROM {
            return Found::NOTHING;
        }
        // over what is usual in this series: a wave fills its box, and even an odd course of it is far from no box's edge
        let far = (self.odd / self.usual.max(0.05)).min(1e3);
        Found {
            distance: if self.last[SHINGLE - 1] < self.last[SHINGLE - 2] {
                -far
            } else {
                far
            },
            probability: None,
            inside: true,
        }
    }

    fn words(&self, value: f64) -> String {
        format!(
            "the course of the last {SHINGLE} values is odd: it would displace {} of {LEAVES} others in the trees of a \
             random cut forest, and usually {}; {} now",
            number(f64::from((self.odd * 10.0).round() / 10.0)),
            number(f64::from((self.usual * 10.0).round() / 10.0)),
            number(value)
        )
    }

    fn accept(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tree: &Tree, at: u16, parent: u16) -> (u16, Point, Point) {
        let node = tree.node(at);
        assert_eq!(node.parent, parent);
        if node.left == NONE {
            assert_eq!(node.leaves, 1);
            return (1, node.low, node.high);
        }
        let (a, la, ha) = check(tree, node.left, at);
        let (b, lb, hb) = check(tree, node.right, at);
        assert_eq!(node.leaves, a + b);
        for k in 0..SHINGLE {
            assert_eq!(node.low[k], la[k].min(lb[k]));
            assert_eq!(node.high[k], ha[k].max(hb[k]));
        }
        let side = usize::from(node.side);
        assert!(ha[side] <= node.cut && (lb[side] > node.cut || la == lb || node.cut == lb[side]));
        (a + b, node.low, node.high)
    }

    #[test]
    fn a_tree_stays_a_tree_and_bounded_whatever_goes_in_and_out() {
        let mut random = Random::new(9);
        let mut tree = Tree::new();
        for i in 0..3_000 {
            let point: Point = std::array::from_fn(|_| random.below(if i < 1_500 { 5 } else { 5_000 }) as f32);
            if tree.leaves.len() >= LEAVES {
                let goes = random.below(LEAVES as u32);
                tree.remove(goes as usize);
            }
            tree.insert(&point, &mut random);
            assert_eq!(usize::from(check(&tree, tree.root, NONE).0), tree.leaves.len());
            assert!(tree.nodes.len() <= 2 * LEAVES);
        }
        while !tree.leaves.is_empty() {
            tree.remove(0);
        }
        assert_eq!(tree.root, NONE);
    }

    #[test]
    fn a_course_that_was_not_there_before_displaces_many() {
        let mut forest = Forest::new();
        let wave = |i: usize| (i as f64 * 0.5).sin() * 10.0;
        let mut usual: f32 = 0.0;
        for i in 0..1_500 {
            forest.step(wave(i), false);
            if i > 500 {
                usual = usual.max(forest.odd);
            }
        }
        // the same values, in an order that never was
        let mut odd: f32 = 0.0;
        for i in 0..8 {
            forest.step(if i % 2 == 0 { 9.0 } else { -9.0 }, false);
            odd = odd.max(forest.odd);
        }
        assert!(odd > 2.0 * usual, "{odd} {usual}");
    }
}
