//! Golden files: what is seen must be, byte for byte, what a file of the tree holds. `UPDATE_EXPECT=1 cargo test` writes the
//! files anew; their difference is then looked at before it is committed.
//!
//! Of `expect-test` and `insta` the former, since its goldens are plain files of any name and ending that a reader browses as
//! they are: no header, no second tool to accept them.

use std::path::Path;

/// Holds what is seen against a golden file, or writes it anew. Lines end in `\n` whatever the checkout made of them.
///
/// # Panics
/// Where they differ, with the difference.
#[track_caller]
pub fn assert_golden(file: impl AsRef<Path>, seen: &str) {
    let file = file.as_ref();
    assert!(file.is_absolute(), "{}: begin at CARGO_MANIFEST_DIR", file.display());
    expect_test::expect_file![file].assert_eq(seen);
}

/// Whether golden files are to be written anew, for those that are no text, or not whole files.
#[must_use]
pub fn renewing() -> bool {
    std::env::var_os("UPDATE_EXPECT").is_some()
}
