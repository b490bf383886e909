//! Reads a pipeline file and what it refers to. All that may read files and the environment is here, not in `config`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use serde::Deserialize;
use suture_config::{Look, Pipeline, Problems, SqlProblem, SqlUse};
use suture_engine::{Expressions, Model};
use suture_event::{Edge, EdgeSource, Rung};
use suture_permit::{Role, SecretKey};

/// A pipeline and the call graph that was known beforehand.
pub struct Loaded {
    /// What the file says.
    pub pipeline: Arc<Pipeline>,
    /// The call graph known beforehand.
    pub edges: Vec<Edge>,
    /// What series begin with.
    pub model: Option<Arc<Model>>,
    /// What permits and the ledger are signed with.
    pub key: Option<SecretKey>,
    /// What compiles the file's SQL expressions.
    pub expressions: Arc<dyn Expressions>,
}

/// A pipeline file that can't be right, with every problem in it.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.render(Look::Plain))]
pub struct BadPipeline(pub Problems);

#[derive(Deserialize)]
struct TopologyFile {
    edges: Vec<TopologyEdge>,
}

#[derive(Deserialize)]
struct TopologyEdge {
    from: Arc<str>,
    to: Arc<str>,
}

/// Reads and checks a pipeline file. `topology` takes the place of the file that the pipeline names.
pub fn load(path: &Path, topology: Option<&Path>) -> anyhow::Result<Loaded> {
    let pipeline = parse(path)?;
    let mut edges: Vec<Edge> = pipeline
        .edges()
        .map(|(from, to)| Edge {
            from: from.into(),
            to: to.into(),
            source: EdgeSource::File,
        })
        .collect();
    let named = pipeline
        .topology
        .file
        .as_ref()
        .map(|file| path.parent().unwrap_or(Path::new(".")).join(file));
    if let Some(file) = topology.map(PathBuf::from).or(named) {
        edges.extend(read_topology(&file)?);
    }
    let model = match &pipeline.model {
        Some(file) => Some(read_model(
            &path.parent().unwrap_or(Path::new(".")).join(file),
            &pipeline,
        )?),
        None => None,
    };
    Ok(Loaded {
        pipeline: Arc::new(pipeline),
        edges,
        model,
        key: None,
        expressions: expressions(),
    })
}

impl Loaded {
    /// Takes a key to sign permits and the ledger with; says in the log what it means that there is none.
    ///
    /// # Errors
    /// Where the file can't be read, is no key of decide's, or the pipeline does not list its public half.
    pub fn with_key(mut self, path: Option<&Path>) -> anyhow::Result<Self> {
        let remediate = &self.pipeline.remediate;
        match path {
            Some(path) => {
                let key = crate::keys::read(path, Role::Decide)?;
                crate::keys::require_listed(&remediate.keys, &key, path)?;
                self.key = Some(key);
            }
            None if remediate.mode > Rung::Advise => tracing::warn!(
                "remediate.mode is more than advise, and there is no --key: permits are not signed, so that no executor that acts \
                 takes a request"
            ),
            None => {}
        }
        Ok(self)
    }

    /// Takes another model in place of the one that the pipeline names, if there is another.
    ///
    /// # Errors
    /// Where the file can't be read, is no model, or was learned from other windows.
    pub fn with_model(mut self, path: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(path) = path {
            self.model = Some(read_model(path, &self.pipeline)?);
        }
        Ok(self)
    }
}

/// Reads a model file and makes sure that it serves a pipeline.
pub fn read_model(path: &Path, pipeline: &Pipeline) -> anyhow::Result<Arc<Model>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read the model file {}", path.display()))?;
    let model = Model::decode(&bytes).with_context(|| path.display().to_string())?;
    model.check(pipeline).with_context(|| path.display().to_string())?;
    Ok(Arc::new(model))
}

/// What compiles SQL in this build.
pub fn expressions() -> Arc<dyn Expressions> {
    #[cfg(feature = "history")]
    {
        Arc::new(suture_history::sql::SqlExpressions::new())
    }
    #[cfg(not(feature = "history"))]
    {
        Arc::new(suture_engine::NoExpressions)
    }
}

/// Reads a pipeline file. Warnings go to the log.
pub fn parse(path: &Path) -> anyhow::Result<Pipeline> {
    let (pipeline, problems) = examine(path)?;
    let Some(pipeline) = pipeline else {
        return Err(BadPipeline(problems).into());
    };
    for problem in &problems {
        tracing::warn!(file = %path.display(), line = problem.line, "{}", problem.message);
    }
    Ok(pipeline)
}

/// Reads a pipeline file and tells everything about it.
pub fn examine(path: &Path) -> anyhow::Result<(Option<Pipeline>, Problems)> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read the pipeline file {}", path.display()))?;
    let (mut pipeline, mut problems) = examine_bytes(&path.display().to_string(), &bytes);
    if let Some(read) = &mut pipeline {
        let folder = path.parent().unwrap_or(Path::new("."));
        let text = |file: &str| std::fs::read_to_string(folder.join(file)).map_err(|error| error.to_string());
        problems.extend(suture_config::take_policies(read, &text));
    }
    Ok((pipeline.filter(|_| !problems.has_errors()), problems))
}

/// The same of a file's bytes, but for the policy files that it names: while those are unread nothing is allowed.
#[must_use]
pub fn examine_bytes(name: &str, bytes: &[u8]) -> (Option<Pipeline>, Problems) {
    let text = match suture_config::decode(name, bytes) {
        Ok(text) => text,
        Err(problems) => return (None, problems),
    };
    let checked = Pipeline::check(name, text, &|name| std::env::var(name).ok(), &check_sql);
    (checked.pipeline, checked.problems)
}

fn read_topology(path: &Path) -> anyhow::Result<Vec<Edge>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read the topology file {}", path.display()))?;
    let file: TopologyFile = serde_json::from_str(&text).with_context(|| {
        format!(
            r#"{}: a topology file looks like {{"edges": [{{"from": "CALLER", "to": "CALLEE"}}]}}"#,
            path.display()
        )
    })?;
    Ok(file
        .edges
        .into_iter()
        .map(|e| Edge {
            from: e.from,
            to: e.to,
            source: EdgeSource::File,
        })
        .collect())
}

#[cfg(feature = "history")]
fn check_sql(place: SqlUse, expression: &str) -> Result<(), SqlProblem> {
    use suture_history::sql::{SqlError, SqlExpressions};

    let sql = SqlExpressions::new();
    let compiled = match place {
        SqlUse::Where => sql.compile_filter(expression).map(|_| ()),
        SqlUse::Value => sql.compile_value(expression).map(|_| ()),
    };
    compiled.map_err(|error| match error {
        SqlError::Compile {
            line,
            column,
            reason,
            help,
            ..
        } => {
            let start: usize = expression.split_inclusive('\n').take(line - 1).map(str::len).sum();
            let rest = expression.get(start..).unwrap_or_default();
            let at = start + rest.char_indices().nth(column - 1).map_or(rest.len(), |(at, _)| at);
            let end = expression.get(at..).unwrap_or_default();
            let word = end
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(end.len())
                .max(1);
            SqlProblem {
                message: reason,
                help: help.unwrap_or_default(),
                at: Some(at.min(expression.len())..(at + word).min(expression.len())),
            }
        }
        SqlError::Evaluate { reason, .. } => SqlProblem {
            message: reason,
            help: String::new(),
            at: None,
        },
    })
}

#[cfg(not(feature = "history"))]
fn check_sql(_: SqlUse, _: &str) -> Result<(), SqlProblem> {
    Err(SqlProblem {
        message: "this build of the program has no SQL".to_owned(),
        help: "use a build with the feature `history`, which is there by default".to_owned(),
        at: None,
    })
}
