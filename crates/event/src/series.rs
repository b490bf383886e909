//! Series and their samples.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeMap};

use crate::{Timestamp, stable_hash};

/// The default bound on the number of labels of one series; a pipeline may set another.
pub const MAX_LABELS: usize = 64;

/// Label names and values, sorted by name, each name once. Cloning is one atomic increment.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Labels(Arc<[(Arc<str>, Arc<str>)]>);

/// Labels that can't be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// The same name twice.
    #[error("label {0:?} is given twice: keep one")]
    Repeated(String),
}

impl Labels {
    /// From names and values in any order.
    ///
    /// # Errors
    /// [`LabelError::Repeated`] where a name stands twice.
    pub fn new<N: Into<Arc<str>>, V: Into<Arc<str>>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, LabelError> {
        let mut pairs: Vec<(Arc<str>, Arc<str>)> = pairs.into_iter().map(|(n, v)| (n.into(), v.into())).collect();
        pairs.sort();
        if let Some(twice) = pairs.windows(2).find(|w| w[0].0 == w[1].0) {
            return Err(LabelError::Repeated(twice[0].0.to_string()));
        }
        Ok(Self(pairs.into()))
    }

    /// The value of a label.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(n, _)| n.as_ref().cmp(name)).ok()?;
        self.0.get(at).map(|(_, v)| v.as_ref())
    }

    /// Names and values, sorted by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (n.as_ref(), v.as_ref()))
    }

    /// How many labels there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no label.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl fmt::Display for Labels {
    /// `{a="b", c="d"}`, as in Prometheus.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (name, value)) in self.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{name}={value:?}")?;
        }
        f.write_str("}")
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (name, value) in self.iter() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Labels;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of label names and text values")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let mut pairs = Vec::with_capacity(map.size_hint().unwrap_or(4).min(MAX_LABELS));
                while let Some(pair) = map.next_entry::<String, String>()? {
                    pairs.push(pair);
                }
                Labels::new(pairs).map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// What makes a series one: its metric's name and its labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SeriesKey {
    /// The metric's name.
    pub metric: Arc<str>,
    /// Its labels.
    #[serde(default)]
    pub labels: Labels,
}

impl SeriesKey {
    /// A 64-bit identity, the same on every machine.
    #[must_use]
    pub fn hash64(&self) -> u64 {
        let labels = self.labels.iter().flat_map(|(n, v)| [n.as_bytes(), v.as_bytes()]);
        stable_hash(std::iter::once(self.metric.as_bytes()).chain(labels))
    }
}

impl fmt::Display for SeriesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.metric, self.labels)
    }
}

/// One measurement of one series, owned. The hot path uses borrowed and columnar forms instead.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// When it was measured.
    pub ts: Timestamp,
    /// The metric's name.
    pub metric: Arc<str>,
    /// What was measured, in the metric's unit.
    pub value: f64,
    /// The series' labels.
    #[serde(default)]
    pub labels: Labels,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_sorted_unique_and_found_by_name() {
        let labels = Labels::new([("b", "2"), ("a", "1")]).unwrap();
        assert_eq!(labels.get("a"), Some("1"));
        assert_eq!(labels.get("c"), None);
        assert_eq!(serde_json::to_string(&labels).unwrap(), r#"{"a":"1","b":"2"}"#);
        assert_eq!(labels.to_string(), r#"{a="1", b="2"}"#);
        assert_eq!(
            Labels::new([("a", "1"), ("a", "2")]),
            Err(LabelError::Repeated("a".into()))
        );
    }

    #[test]
    fn a_series_hash_depends_on_where_names_end() {
        let key = |m: &str, l: &[(&str, &str)]| SeriesKey {
            metric: m.into(),
            labels: Labels::new(l.iter().copied()).unwrap(),
        };
        assert_ne!(key("ab", &[("c", "d")]).hash64(), key("a", &[("bc", "d")]).hash64());
        assert_eq!(
            key("m", &[("a", "1"), ("b", "2")]).hash64(),
            key("m", &[("b", "2"), ("a", "1")]).hash64()
        );
    }
}
