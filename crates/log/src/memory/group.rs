//! Groups: who is in, who is to have what, and who has it.
//!
//! A partition changes hands in two steps, as cooperative rebalances do it: its owner lets go of it at its own next poll,
//! and only then does the next one get it. A member that never polls again keeps what it has until it is thrown out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{Committed, TopicPartition};

pub(super) type Member = u64;

/// A member's standing when it was asked for.
pub(super) struct Standing {
    pub(super) group: String,
    /// `None` for a consumer that takes partitions without a group.
    pub(super) member: MemberName,
}

pub(super) struct MemberName(pub(super) Option<Member>);

impl std::fmt::Display for MemberName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(member) => write!(f, "{member}"),
            None => f.write_str("without a group"),
        }
    }
}

struct Joined {
    client: String,
    topics: Vec<String>,
    target: BTreeSet<TopicPartition>,
}

#[derive(Default)]
pub(super) struct Group {
    members: BTreeMap<Member, Joined>,
    owners: BTreeMap<TopicPartition, Member>,
    pub(super) offsets: BTreeMap<TopicPartition, Committed>,
}

impl Group {
    pub(super) fn join(&mut self, member: Member, client: &str, topics: &[String]) {
        let joined = Joined {
            client: client.to_owned(),
            topics: topics.to_vec(),
            target: BTreeSet::new(),
        };
        self.members.insert(member, joined);
    }

    pub(super) fn leave(&mut self, member: Member) {
        self.members.remove(&member);
        self.owners.retain(|_, owner| *owner != member);
    }

    pub(super) fn expel(&mut self, client: &str) {
        let gone: Vec<Member> = self
            .members
            .iter()
            .filter(|(_, joined)| joined.client == client)
            .map(|(member, _)| *member)
            .collect();
        gone.into_iter().for_each(|member| self.leave(member));
    }

    pub(super) fn is_member(&self, member: Member) -> bool {
        self.members.contains_key(&member)
    }

    pub(super) fn accepts(&self, standing: &Standing) -> bool {
        standing.member.0.is_none_or(|member| self.is_member(member))
    }

    /// Spreads the partitions evenly, each to who has it already where that is possible.
    pub(super) fn rebalance(&mut self, topics: &BTreeMap<Arc<str>, usize>) {
        for joined in self.members.values_mut() {
            joined.target.clear();
        }
        let all: Vec<TopicPartition> = topics
            .iter()
            .flat_map(|(topic, count)| {
                (0..*count)
                    .map(|index| TopicPartition::new(Arc::clone(topic), i32::try_from(index).unwrap_or(i32::MAX)))
            })
            .filter(|at| {
                self.members
                    .values()
                    .any(|joined| joined.topics.iter().any(|t| **t == *at.topic))
            })
            .collect();
        let fair = all.len().div_ceil(self.members.len().max(1));
        let mut left = Vec::new();
        for at in all {
            match self.owners.get(&at).and_then(|owner| self.members.get_mut(owner)) {
                Some(joined) if joined.target.len() < fair && joined.topics.iter().any(|t| **t == *at.topic) => {
                    joined.target.insert(at);
                }
                _ => left.push(at),
            }
        }
        for at in left {
            let able = self
                .members
                .values_mut()
                .filter(|joined| joined.topics.iter().any(|t| **t == *at.topic));
            if let Some(joined) = able.min_by_key(|joined| joined.target.len()) {
                joined.target.insert(at);
            }
        }
    }

    /// What the member has and must let go of.
    pub(super) fn to_release(&self, member: Member) -> Vec<TopicPartition> {
        let target = self.members.get(&member).map(|joined| &joined.target);
        self.owners
            .iter()
            .filter(|(at, owner)| **owner == member && !target.is_some_and(|target| target.contains(at)))
            .map(|(at, _)| at.clone())
            .collect()
    }

    pub(super) fn release(&mut self, member: Member, partitions: &[TopicPartition]) {
        for at in partitions {
            if self.owners.get(at) == Some(&member) {
                self.owners.remove(at);
            }
        }
    }

    /// Gives the member what it is to have and nobody has.
    pub(super) fn take(&mut self, member: Member) -> Vec<TopicPartition> {
        let Some(joined) = self.members.get(&member) else {
            return Vec::new();
        };
        let free: Vec<TopicPartition> = joined
            .target
            .iter()
            .filter(|at| !self.owners.contains_key(at))
            .cloned()
            .collect();
        self.owners.extend(free.iter().map(|at| (at.clone(), member)));
        free
    }
}
