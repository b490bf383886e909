//! `suture policy`: what policies say, and what they may speak of.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use suture_policy::{Envelope, Example};
use suture_service::load;

/// Tries a pipeline's policies.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Debug, clap::Subcommand)]
enum Sub {
    /// Ask a pipeline's policies the examples that are kept beside them: of `night.cedar` those in `night.examples.yaml`. Exit code 0
    /// where each is answered as it says, 1 where one is not, 78 where the pipeline or a policy can't be right.
    Test {
        /// The pipeline file.
        #[arg(value_name = "PIPELINE.yaml")]
        pipeline: PathBuf,
        /// Files of examples, in place of those beside the policies.
        #[arg(long, value_name = "FILE.yaml")]
        examples: Vec<PathBuf>,
    },
    /// Print the Cedar schema: the verbs, and what a policy may ask about an action.
    Schema,
}

/// Does what is asked with policies.
pub(crate) fn policy(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Sub::Schema => {
            print!("{}", suture_policy::schema());
            Ok(ExitCode::SUCCESS)
        }
        Sub::Test { pipeline, examples } => test(pipeline, examples),
    }
}

fn test(path: &Path, examples: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let pipeline = load::parse(path)?;
    let Some(policy) = &pipeline.remediate.policy else {
        bail!(
            "{}: has no `remediate.policy`: whatever the ladder leaves is allowed",
            path.display()
        );
    };
    let files = if examples.is_empty() {
        beside(path, &policy.files)?
    } else {
        examples.to_vec()
    };
    // `load` has refused what does not compile
    let envelope = Envelope::new(&policy.texts).map_err(|problems| {
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("{}", problems.join("; "))
    })?;
    let (mut right, mut wrong) = (0, 0);
    for file in &files {
        for example in read(file)? {
            match example.try_on(&envelope).1 {
                None => right += 1,
                Some(why) => {
                    wrong += 1;
                    println!("{}: {}: {why}", file.display(), example.name);
                }
            }
        }
    }
    println!("{} policies: {right} examples as they say, {wrong} not", envelope.len());
    if right + wrong == 0 {
        bail!("there is no example in {}", list(&files));
    }
    Ok(if wrong == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The files of examples beside policy files, of which at least one must be there.
fn beside(pipeline: &Path, policies: &[String]) -> anyhow::Result<Vec<PathBuf>> {
    let folder = pipeline.parent().unwrap_or(Path::new("."));
    let wanted: Vec<PathBuf> = policies
        .iter()
        .map(|file| folder.join(file).with_extension("examples.yaml"))
        .collect();
    let found: Vec<PathBuf> = wanted.iter().filter(|file| file.is_file()).cloned().collect();
    if found.is_empty() {
        bail!(
            "there are no examples beside the policies: write {}, or give --examples",
            if wanted.is_empty() {
                "policies into files that `remediate.policy.files` names".to_owned()
            } else {
                list(&wanted)
            }
        );
    }
    Ok(found)
}

fn list(files: &[PathBuf]) -> String {
    let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    names.join(", ")
}

fn read(path: &Path) -> anyhow::Result<Vec<Example>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    // chosen as in `suture-config`: a maintained reader of YAML with serde, with budgets on what a file may ask of it
    serde_saphyr::from_str(&text).with_context(|| format!("{}: this is no list of examples", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const PIPELINE: &str = "version: 1
name: shop
telemetry: [{topic: t}]
remediate: {policy: {files: [ops.cedar]}}
";
    const POLICY: &str = "@id(\"reversible\") permit (principal, action in Action::\"reversible\", resource);\n";

    fn tried(policy: &str, examples: &str) -> anyhow::Result<ExitCode> {
        let folder = tempfile::tempdir().unwrap();
        let pipeline = folder.path().join("shop.yaml");
        fs::write(&pipeline, PIPELINE).unwrap();
        fs::write(folder.path().join("ops.cedar"), policy).unwrap();
        fs::write(folder.path().join("ops.examples.yaml"), examples).unwrap();
        test(&pipeline, &[])
    }

    #[test]
    fn examples_beside_a_policy_are_asked_and_the_exit_code_says_whether_they_hold() {
        let code = |examples| format!("{:?}", tried(POLICY, examples).unwrap());
        let (good, bad) = (format!("{:?}", ExitCode::SUCCESS), format!("{:?}", ExitCode::FAILURE));
        assert_eq!(code("- {name: a, expect: allow, by: [reversible]}"), good);
        assert_eq!(code("- {name: a, ask: {action: scale_in}, expect: deny}"), good);
        assert_eq!(code("- {name: a, expect: deny}"), bad);
        assert_eq!(code("- {name: a, expect: allow, by: [other]}"), bad);
    }

    #[test]
    fn what_is_wrong_is_told_in_its_own_file() {
        let told = |policy, examples| {
            let error = tried(policy, examples).unwrap_err();
            format!("{error:#}")
        };
        let policy = told(
            "permit (principal, action, resource)\n  when { context.teir == 0 };",
            "[]",
        );
        assert!(policy.contains("ops.cedar:2:") && policy.contains("teir"), "{policy}");
        let misspelt = told(POLICY, "- {name: a, ask: {actoin: restart}, expect: allow}");
        assert!(
            misspelt.contains("ops.examples.yaml") && misspelt.contains("actoin"),
            "{misspelt}"
        );
        assert!(told(POLICY, "[]").contains("no example"));
    }
}
