//! The upper triangle of a symmetric matrix over the members of a group, with the diagonal, row by row.

/// Where the pair of `i <= j` stands in the triangle of `n` members.
pub(super) fn place(n: usize, i: usize, j: usize) -> usize {
    i * n - i * i.saturating_sub(1) / 2 - i + j
}

/// The triangle of `n` members after one more came in before the `at`-th; `fresh` says what its pairs begin with, of which the
/// one with itself is on the diagonal.
pub(super) fn with<T: Copy>(cells: &[T], n: usize, at: usize, fresh: impl Fn(bool) -> T) -> Vec<T> {
    let old = |k: usize| if k > at { k - 1 } else { k };
    pairs(n + 1)
        .map(|(i, j)| {
            let known = (i != at && j != at)
                .then(|| cells.get(place(n, old(i), old(j))))
                .flatten();
            known.copied().unwrap_or_else(|| fresh(i == j))
        })
        .collect()
}

/// The triangle of `n` members after the `at`-th left.
pub(super) fn without<T: Copy>(cells: &[T], n: usize, at: usize) -> Vec<T> {
    let old = |k: usize| if k >= at { k + 1 } else { k };
    pairs(n.saturating_sub(1))
        .filter_map(|(i, j)| cells.get(place(n, old(i), old(j))).copied())
        .collect()
}

fn pairs(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).flat_map(move |i| (i..n).map(move |j| (i, j)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_and_go_and_pairs_stay_where_they_were() {
        // each cell holds the pair's names
        let named = |names: &[u8]| -> Vec<(u8, u8)> { pairs(names.len()).map(|(i, j)| (names[i], names[j])).collect() };
        let three = named(&[1, 2, 3]);
        assert!(pairs(3).enumerate().all(|(at, (i, j))| place(3, i, j) == at));
        for at in 0..=3 {
            let four = with(&three, 3, at, |itself| if itself { (9, 9) } else { (0, 0) });
            let kept: Vec<_> = four
                .iter()
                .copied()
                .filter(|pair| *pair != (0, 0) && *pair != (9, 9))
                .collect();
            assert_eq!((four.len(), kept), (10, three.clone()), "before {at}");
            assert_eq!(four[place(4, at, at)], (9, 9));
            assert_eq!(without(&four, 4, at), three);
        }
        assert_eq!(without(&three, 3, 1), named(&[1, 3]));
    }
}
