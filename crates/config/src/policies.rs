//! The policy files that a pipeline names.

use suture_policy::Source;

use crate::{
    Pipeline,
    problem::{Problems, Report},
};

/// A policy file may have this many bytes.
pub const MOST_POLICY_BYTES: usize = 1 << 20;

/// Reads the policy files that a pipeline names, by `read`, which gets each path as it is written, and tells everything that is
/// wrong with them, each in its own file. Until this was done, a pipeline that names policy files allows no action.
pub fn take_policies(pipeline: &mut Pipeline, read: &dyn Fn(&str) -> Result<String, String>) -> Problems {
    let mut problems = Problems::default();
    let Some(policy) = &mut pipeline.remediate.policy else {
        return problems;
    };
    let unread: Vec<String> = policy.unread().map(str::to_owned).collect();
    for name in unread {
        let text = read(&name).and_then(|text| {
            if text.len() > MOST_POLICY_BYTES {
                return Err(format!("it has more than {MOST_POLICY_BYTES} bytes"));
            }
            Ok(text)
        });
        match text {
            Ok(text) => policy.texts.push(Source { name, text }),
            Err(why) => {
                let mut report = Report::new(&name, " ");
                let help = "`remediate.policy.files` names files by their paths from the pipeline file's folder";
                let message = format!("the policy file cannot be read: {why}");
                report.error("policy_file", 0..0, "remediate.policy.files", message, help);
                problems.extend(report.finish());
            }
        }
    }
    let found = policy.validate();
    for source in &policy.texts {
        let mut report = Report::new(&source.name, &source.text);
        for problem in found.iter().filter(|problem| problem.file == source.name) {
            let help = "`suture policy schema` prints what policies may speak of";
            report.error("policy", problem.span.clone(), "", problem.message.clone(), help);
        }
        problems.extend(report.finish());
    }
    problems
}

#[cfg(test)]
mod tests {
    // what goes wrong here is a failed test
    #![allow(clippy::unwrap_used)]

    use super::*;

    const PIPELINE: &str =
        "version: 1\nname: shop\ntelemetry: [{topic: t}]\nremediate: {policy: {files: [a.cedar, b.cedar]}}\n";
    const GOOD: &str = "permit (principal, action, resource);";

    /// What is told where the second file reads so: file, line, column and message.
    fn told(second: Result<String, String>) -> (Pipeline, Vec<(String, usize, usize, String)>) {
        let mut pipeline = Pipeline::parse("shop.yaml", PIPELINE, &|_| None).unwrap();
        let problems = take_policies(&mut pipeline, &|file| match file {
            "a.cedar" => Ok(GOOD.to_owned()),
            _ => second.clone(),
        });
        let problems = problems
            .iter()
            .map(|p| (p.file.to_string(), p.line, p.column, p.message.clone()));
        (pipeline, problems.collect())
    }

    #[test]
    fn policies_are_taken_in_under_the_names_of_their_files() {
        let (pipeline, problems) = told(Ok(GOOD.to_owned()));
        assert_eq!(problems, []);
        let policy = pipeline.remediate.policy.as_ref().unwrap();
        assert_eq!(policy.unread().count(), 0);
        let names: Vec<_> = policy.texts.iter().map(|text| text.name.as_str()).collect();
        assert_eq!(names, ["a.cedar", "b.cedar"]);
        let (other, _) = told(Ok(GOOD.replace("permit", "forbid")));
        assert_ne!(pipeline.fingerprint(), other.fingerprint(), "what policies say decides");
    }

    #[test]
    fn what_is_wrong_is_told_in_its_file_with_its_place_and_the_file_goes_on_counting_as_unread() {
        let (_, problems) = told(Ok(
            "permit (principal, action, resource)\n  when { context.teir == 0 };".to_owned(),
        ));
        let [(file, line, column, message)] = &problems[..] else {
            unreachable!("{problems:?}")
        };
        assert_eq!((file.as_str(), *line), ("b.cedar", 2));
        assert!(*column > 1 && message.contains("teir"), "{column} {message}");
        let (pipeline, problems) = told(Err("no such file".to_owned()));
        assert!(problems[0].3.contains("cannot be read: no such file"), "{problems:?}");
        assert_eq!(
            pipeline.remediate.policy.unwrap().unread().collect::<Vec<_>>(),
            ["b.cedar"]
        );
        let (_, problems) = told(Ok(" ".repeat(MOST_POLICY_BYTES + 1)));
        assert!(problems[0].3.contains("more than"), "{problems:?}");
    }
}
