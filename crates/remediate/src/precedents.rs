//! How often what is diagnosed was diagnosed before.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// How many incidents ended with which class on which service, the pair that came first forgotten beyond a bound.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Precedents(Vec<Precedent>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Precedent {
    class: Arc<str>,
    service: Option<Arc<str>>,
    times: u32,
}

impl Precedents {
    /// Pairs that are known.
    const BOUND: usize = 1_000;

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One more incident has ended so.
    pub(crate) fn count(&mut self, class: &Arc<str>, service: Option<&Arc<str>>) {
        let same = |known: &&mut Precedent| known.class == *class && known.service.as_ref() == service;
        if let Some(known) = self.0.iter_mut().find(same) {
            known.times = known.times.saturating_add(1);
            return;
        }
        if self.0.len() >= Self::BOUND {
            self.0.remove(0);
        }
        self.0.push(Precedent {
            class: Arc::clone(class),
            service: service.cloned(),
            times: 1,
        });
    }

    pub(crate) fn of(&self, class: &str, service: Option<&Arc<str>>) -> u32 {
        let same = |known: &&Precedent| *known.class == *class && known.service.as_ref() == service;
        self.0.iter().find(same).map_or(0, |known| known.times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_known_for_the_service_it_was_seen_on_and_no_more_than_the_bound_are() {
        let mut known = Precedents::default();
        let (leak, cart) = (Arc::from("memory_leak"), Arc::from("cart"));
        known.count(&leak, Some(&cart));
        known.count(&leak, Some(&cart));
        assert_eq!(known.of("memory_leak", Some(&cart)), 2);
        assert_eq!(known.of("memory_leak", Some(&"ads".into())), 0);
        assert_eq!(known.of("memory_leak", None), 0);
        for n in 0..Precedents::BOUND {
            known.count(&leak, Some(&format!("s{n}").into()));
        }
        assert_eq!(known.of("memory_leak", Some(&cart)), 0);
        assert_eq!(known.0.len(), Precedents::BOUND);
    }
}
