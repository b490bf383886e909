//! The page on the pipeline file lists every key as the schema has it.

// helpers outside of test functions stop at what cannot be, like the tests themselves
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{fs, path::Path};

use suture_testkit::golden::assert_golden;

const BEGIN: &str = "<!-- keys: written by `UPDATE_EXPECT=1 cargo test -p suture-config` -->\n";
const END: &str = "<!-- end of keys -->";

#[test]
fn the_page_lists_every_key_with_its_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/pipeline.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page
        .split_once(BEGIN)
        .expect("the page has a mark where the keys begin");
    let (_, after) = rest.split_once(END).expect("the page has a mark where the keys end");
    let expected = format!("{before}{BEGIN}\n{}\n{END}{after}", suture_config::reference());
    assert_golden(&path, &expected);
}

#[test]
fn every_example_on_the_page_is_a_file_without_problems() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/pipeline.md");
    let page = fs::read_to_string(&path).unwrap();
    let examples: Vec<&str> = page
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(examples.len() >= 2, "{}", examples.len());
    let env = |name: &str| (name == "KAFKA_PASSWORD").then(|| "secret".to_owned());
    for example in examples {
        let checked = suture_config::Pipeline::check("example", example, &env, &suture_config::Unchecked);
        assert!(
            checked.problems.is_empty(),
            "{}",
            checked.problems.render(suture_config::Look::Plain)
        );
    }
}
