//! The stock policies, and the examples beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests fail by panicking, as tests do

use std::{fs, path::Path};

use suture_policy::{Envelope, Example, Source};

#[test]
fn every_stock_policy_determines_an_example_and_every_example_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pipelines/policies");
    let mut policies = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "cedar") {
            continue;
        }
        policies += 1;
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let ids: Vec<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("@id(\"")?.strip_suffix("\")").map(str::to_owned))
            .collect();
        let envelope = Envelope::new(&[Source { name, text }]).unwrap();
        assert_eq!(ids.len(), envelope.len(), "each has a name");
        let examples = fs::read_to_string(path.with_extension("examples.yaml")).unwrap();
        let examples: Vec<Example> = serde_saphyr::from_str(&examples).unwrap();
        let mut determined = std::collections::BTreeSet::new();
        for example in &examples {
            let (answer, wrong) = example.try_on(&envelope);
            assert_eq!(wrong, None, "{}", example.name);
            determined.extend(answer.policies);
        }
        for id in &ids {
            assert!(determined.contains(id.as_str()), "no example shows {id:?}");
        }
    }
    assert!(policies > 0);
}
