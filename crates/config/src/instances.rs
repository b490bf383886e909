//! Which series are those of one service's instances, and become one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use suture_detect::several::PeersOptions;
use suture_event::{Checker, Labels, Problem, SeriesKey};

use crate::{DeriveRule, Match, Pipeline};

/// Siblings with a value without which none of them is judged against the others.
const SIBLINGS: u32 = 3;

/// Which series are those of one service's instances. What is judged is the service: where a series names its service and one
/// of `labels` beside it, it is rolled up with those that differ in these labels alone, and the series that is made, which has
/// none of them, is judged in its place. So a deploy that replaces every instance leaves the baseline standing, and an
/// instance's end is no silence. Needs `window.size`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Instances {
    /// Whether series of instances are rolled up. Where not, each is judged by its own past.
    pub roll_up: bool,
    /// Labels that tell instances of a service apart. The labels under `entity` and `scope.label` never do.
    pub labels: Vec<String>,
    /// Labels of where an instance runs or of what it was made, which go with it: the series that is made does not have
    /// them either. By themselves they make no instance: a series of a machine stays what it is.
    pub along: Vec<String>,
    /// Whether each instance is judged against its siblings too, where three or more send: the `peers` of a `derive` rule,
    /// of what is alike however long an instance runs, which memory, disks and what is of no known kind are not. Not done
    /// where the file has a `peers` rule of its own.
    pub siblings: bool,
    /// Instances that one series is made of, at most; of further ones samples are refused. One that was silent for longer
    /// than `window.gap_limit` windows gives way to a new one.
    #[schemars(range(min = 1, max = 100_000))]
    pub most: u32,
}

impl Default for Instances {
    fn default() -> Self {
        let labels = [
            "pod",
            "pod_name",
            "pod_uid",
            "pod.name",
            "kubernetes_pod_name",
            "k8s.pod.name",
            "k8s.pod.uid",
            "k8s_pod_name",
            "k8s_pod_uid",
            "instance",
            "instance_id",
            "instance.id",
            "service.instance.id",
            "service_instance_id",
            "container_id",
            "container.id",
            "task_id",
            "task_arn",
            "aws.ecs.task.arn",
            "aws.ecs.task.id",
            "alloc_id",
            "replica",
            "replica_id",
            "process.pid",
        ];
        let along = [
            "pod_ip",
            "k8s.pod.ip",
            "k8s.pod.start_time",
            "host",
            "hostname",
            "host.id",
            "host.ip",
            "host.name",
            "host_ip",
            "host_name",
            "node",
            "node_name",
            "k8s.node.name",
            "k8s.node.uid",
            "replicaset",
            "k8s.replicaset.name",
            "k8s.replicaset.uid",
            "pod_template_hash",
            "pod-template-hash",
            "controller_revision_hash",
            "image",
            "image_id",
            "container.image.id",
            "container.image.name",
            "container.image.tag",
            "container.image.tags",
            "service.version",
        ];
        Self {
            roll_up: true,
            labels: labels.map(str::to_owned).to_vec(),
            along: along.map(str::to_owned).to_vec(),
            siblings: true,
            most: 1_000,
        }
    }
}

impl Instances {
    /// Labels that are empty or given twice, by their places.
    pub(crate) fn validate(&self) -> Vec<Problem> {
        let mut check = Checker::default();
        let of = |key: &'static str, labels: &[String]| -> Vec<(String, String)> {
            let places = labels.iter().enumerate();
            places
                .map(|(at, label)| (format!("{key}[{at}]"), label.clone()))
                .collect()
        };
        let all = [of("labels", &self.labels), of("along", &self.along)].concat();
        for (at, (path, label)) in all.iter().enumerate() {
            if label.is_empty() || all.iter().take(at).any(|(_, earlier)| earlier == label) {
                let message = format!("{label:?} is no label, or given twice");
                check.wrong(path, message, "name each label once");
            }
        }
        if self.roll_up && self.labels.is_empty() {
            let help = "name one, such as `pod`, or say `roll_up: false`";
            check.wrong("labels", "no label tells instances apart", help);
        }
        check.found()
    }
}

impl Pipeline {
    /// What decides how series of instances are rolled up, where they are.
    #[must_use]
    pub fn rolled_up(&self) -> Option<&Instances> {
        (self.instances.roll_up && self.window.size.is_some()).then_some(&self.instances)
    }

    /// The series that one of an instance is rolled up into; none where it is no instance's.
    #[must_use]
    pub fn rolled_up_from(&self, key: &SeriesKey) -> Option<SeriesKey> {
        let instances = self.rolled_up()?;
        key.labels.get(&self.entity)?;
        let names = |labels: &[String], name: &str| {
            name != self.entity && name != self.scope.label && labels.iter().any(|label| label == name)
        };
        let mut labels = key.labels.iter();
        if !labels.any(|(name, _)| names(&instances.labels, name)) {
            return None;
        }
        let rest = key
            .labels
            .iter()
            .filter(|(name, _)| !names(&instances.labels, name) && !names(&instances.along, name));
        let labels = Labels::new(rest.map(|(name, value)| (name.to_owned(), value.to_owned()))).ok()?;
        Some(SeriesKey {
            metric: key.metric.clone(),
            labels,
        })
    }

    /// The rule by which instances are judged against their siblings, unless the file has one of its own.
    #[must_use]
    pub fn siblings(&self) -> Option<DeriveRule> {
        let instances = self.rolled_up().filter(|instances| instances.siblings)?;
        if self.derive.iter().any(|rule| rule.peers.is_some()) {
            return None;
        }
        let among = instances.labels.iter().chain(&instances.along);
        let among = among.filter(|label| **label != self.entity && **label != self.scope.label);
        let members = instances.most.max(SIBLINGS);
        Some(DeriveRule {
            name: "siblings".to_owned(),
            pattern: Match::default(),
            by: None,
            groups: u32::MAX,
            kind: None,
            direction: None,
            least_effect: None,
            alarms: None,
            detect: self.detect.clone(),
            peers: Some(PeersOptions {
                among: among.cloned().collect(),
                least: SIBLINGS,
                members,
            }),
            together: None,
            covariance: None,
            components: None,
            mix: None,
            new_values: None,
            slo: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipeline(more: &str) -> Pipeline {
        let text = format!("version: 1\nname: test\ntelemetry: [{{topic: t}}]\n{more}");
        Pipeline::parse("test.yaml", &text, &|_| None).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn rolled(pipeline: &Pipeline, labels: &[(&str, &str)]) -> Option<String> {
        let labels = labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let key = SeriesKey {
            metric: "latency".into(),
            labels: Labels::new(labels).unwrap(),
        };
        pipeline.rolled_up_from(&key).map(|key| key.to_string())
    }

    #[test]
    fn what_tells_instances_apart_goes_and_the_rest_stays() {
        let usual = pipeline("window: {size: 1m}\n");
        let pod = [
            ("service", "cart"),
            ("pod", "cart-1"),
            ("node", "n7"),
            ("route", "/buy"),
        ];
        let made = rolled(&usual, &pod).unwrap();
        assert!(made.contains("cart") && made.contains("/buy"), "{made}");
        assert!(!made.contains("cart-1") && !made.contains("n7"), "{made}");
        // a machine's, one that names no service, and one that is of the service already
        assert_eq!(rolled(&usual, &[("service", "cart"), ("node", "n7")]), None);
        assert_eq!(rolled(&usual, &[("pod", "cart-1"), ("route", "/buy")]), None);
        assert_eq!(rolled(&usual, &[("service", "cart"), ("route", "/buy")]), None);
    }

    #[test]
    fn an_entity_is_no_instance_and_the_setting_turns_it_off() {
        let series = [("service", "cart"), ("pod", "cart-1"), ("cell", "c3")];
        let by_pod = pipeline("entity: pod\nwindow: {size: 1m}\n");
        assert_eq!(rolled(&by_pod, &series), None);
        for off in [
            "",
            "window: {size: 1m}\ninstances: {roll_up: false}\n",
            "window: {size: 1m}\ninstances: {labels: [shard]}\n",
        ] {
            assert_eq!(rolled(&pipeline(off), &series), None, "{off}");
        }
        let own = pipeline("window: {size: 1m}\ninstances: {labels: [cell], along: []}\n");
        let made = rolled(&own, &series).unwrap();
        assert!(made.contains("cart-1") && !made.contains("c3"), "{made}");
    }

    #[test]
    fn a_rule_of_the_file_takes_the_place_of_the_one_for_siblings() {
        assert!(pipeline("window: {size: 1m}\n").siblings().is_some());
        assert!(pipeline("").siblings().is_none());
        assert!(
            pipeline("window: {size: 1m}\ninstances: {siblings: false}\n")
                .siblings()
                .is_none()
        );
        let own = pipeline("window: {size: 1m}\nderive: [{name: mine, match: {metric: cpu}, peers: {}}]\n");
        assert!(own.siblings().is_none());
    }
}
