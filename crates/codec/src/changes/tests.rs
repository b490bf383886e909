//! Announcements in the shape that each tool documents, with names of our own.

use suture_event::{Change, ChangeKind};

use super::*;
use crate::corrupt;

const GITHUB: &str = r#"{"action":"created","deployment_status":{"id":1115122,"state":"success","creator":{"login":"mina"},"description":"","environment":"production","target_url":"","created_at":"2022-08-22T03:51:19Z","updated_at":"2022-08-22T03:51:20Z"},"deployment":{"id":145988,"sha":"a10867b14bb761a232cd80139fbd4c0d33264240","ref":"main","task":"deploy","payload":{},"original_environment":"production","environment":"production","description":null,"created_at":"2022-08-22T03:48:00Z","updated_at":"2022-08-22T03:51:19Z"},"repository":{"id":186853002,"name":"checkout","full_name":"shop/checkout","private":true,"html_url":"https://github.com/shop/checkout","owner":{"login":"shop"}},"sender":{"login":"mina","type":"User"}}"#;

const GITLAB: &str = r#"{"object_kind":"deployment","status":"success","status_changed_at":"2022-08-22 05:51:19 +0200","deployment_id":15,"deployable_id":796,"deployable_url":"https://git.shop.test/shop/checkout/-/jobs/796","environment":"production","environment_tier":"production","project":{"id":30,"name":"Check out","path_with_namespace":"shop/checkout","web_url":"https://git.shop.test/shop/checkout","default_branch":"main"},"short_sha":"279484c0","user":{"id":1,"name":"Mina"},"commit_title":"Add tax","ref":"main"}"#;

const ARGOCD: &str = r#"{"apiVersion":"argoproj.io/v1alpha1","kind":"Application","metadata":{"name":"checkout","namespace":"argocd","uid":"2b9b","labels":{"environment":"production"}},"spec":{"destination":{"namespace":"shop","server":"https://kubernetes.default.svc"},"source":{"repoURL":"https://github.com/shop/deploy","path":"checkout","targetRevision":"HEAD"}},"status":{"health":{"status":"Healthy"},"operationState":{"phase":"Succeeded","startedAt":"2022-08-22T03:50:00Z","finishedAt":"2022-08-22T03:51:19Z","message":"successfully synced","syncResult":{"revision":"4f6a1b","source":{}}},"sync":{"status":"Synced","revision":"4f6a1b"}}}"#;

const FLUX: &str = r#"{"involvedObject":{"apiVersion":"helm.toolkit.fluxcd.io/v2","kind":"HelmRelease","name":"checkout","namespace":"shop","uid":"7d0c","resourceVersion":"33"},"severity":"info","timestamp":"2022-08-22T03:51:19Z","message":"Helm upgrade succeeded","reason":"UpgradeSucceeded","metadata":{"helm.toolkit.fluxcd.io/revision":"1.2.0","environment":"production"},"reportingController":"helm-controller","reportingInstance":"helm-controller-5d8"}"#;

const KUBERNETES: &str = r#"{"type":"MODIFIED","object":{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"checkout-web","namespace":"shop","uid":"8f0e","generation":4,"labels":{"app.kubernetes.io/name":"checkout","environment":"production"},"annotations":{"deployment.kubernetes.io/revision":"3"}},"spec":{"replicas":3,"template":{"spec":{"containers":[{"name":"web","image":"registry.shop.test/checkout:1.2"}]}}},"status":{"observedGeneration":4,"replicas":4,"updatedReplicas":1,"conditions":[{"type":"Available","status":"True","lastUpdateTime":"2022-08-01T00:00:00Z","reason":"MinimumReplicasAvailable"},{"type":"Progressing","status":"True","lastUpdateTime":"2022-08-22T03:51:19Z","lastTransitionTime":"2022-08-01T00:00:00Z","reason":"ReplicaSetUpdated","message":"ReplicaSet \"checkout-web-77\" is progressing."}]}}}"#;

const LAUNCHDARKLY: &str = r#"{"_links":{"self":{"href":"/api/v2/auditlog/62ff","type":"application/json"}},"_id":"62ff","accountId":"569f","date":1661140279000,"accesses":[{"action":"updateOn","resource":"proj/shop:env/production:flag/new-tax;release"}],"kind":"flag","name":"New tax","description":"","shortDescription":"","member":{"email":"mina@shop.test"},"titleVerb":"turned on the flag","title":"Mina turned on the flag New tax in Production","target":{"name":"New tax","resources":["proj/shop:env/production:flag/new-tax;release"]},"currentVersion":{"key":"new-tax","tags":["release","service:checkout"]}}"#;

const TERRAFORM: &str = r#"{"payload_version":1,"notification_configuration_id":"nc-AeUQ","run_url":"https://app.terraform.io/app/shop/checkout/runs/run-FwnE","run_id":"run-FwnE","run_message":"More memory","run_created_at":"2022-08-22T03:40:00.000Z","run_created_by":"mina","workspace_id":"ws-XdeU","workspace_name":"checkout","organization_name":"shop","notifications":[{"message":"Run Applied","trigger":"run:completed","run_status":"applied","run_updated_at":"2022-08-22T03:51:19.000Z","run_updated_by":"mina"}]}"#;

const PLAIN: &str = r#"{"service":"checkout","version":"1.2","kind":"deploy","environment":"production","time":"2022-08-22T03:51:19Z"}"#;

const ALL: [(ChangeFormat, &str); 8] = [
    (ChangeFormat::Github, GITHUB),
    (ChangeFormat::Gitlab, GITLAB),
    (ChangeFormat::Argocd, ARGOCD),
    (ChangeFormat::Flux, FLUX),
    (ChangeFormat::Kubernetes, KUBERNETES),
    (ChangeFormat::Launchdarkly, LAUNCHDARKLY),
    (ChangeFormat::Terraform, TERRAFORM),
    (ChangeFormat::Plain, PLAIN),
];

fn read(format: ChangeFormat, text: &str) -> Result<ChangeEvent, DecodeError> {
    format.decoder().decode(Headers::default(), Some(text.as_bytes()))
}

fn change(format: ChangeFormat, text: &str) -> Change {
    match read(format, text).unwrap() {
        ChangeEvent::Change(change) => change,
        ChangeEvent::Ignored(what) => panic!("passed over: {what}"),
    }
}

fn passed_over(format: ChangeFormat, text: &str) -> String {
    match read(format, text).unwrap() {
        ChangeEvent::Ignored(what) => what,
        ChangeEvent::Change(change) => panic!("taken: {change:?}"),
    }
}

#[test]
fn every_tools_announcement_is_the_change_of_its_service_at_its_time() {
    let found: Vec<(String, ChangeKind, String)> = ALL
        .iter()
        .map(|(format, text)| {
            let change = change(*format, text);
            assert_eq!(
                (change.at.as_millis(), &*change.service),
                (1_661_140_279_000, "checkout"),
                "{format:?}"
            );
            let environment = (*format != ChangeFormat::Terraform).then_some("production");
            assert_eq!(change.environment.as_deref(), environment, "{format:?}");
            (change.id.to_string(), change.kind, change.artifact.unwrap().to_string())
        })
        .collect();
    let expected = [
        (
            "github:shop/checkout/deployments/145988/success",
            ChangeKind::Deploy,
            "a10867b14bb761a232cd80139fbd4c0d33264240",
        ),
        (
            "gitlab:shop/checkout/deployments/15/success",
            ChangeKind::Deploy,
            "279484c0",
        ),
        (
            "argocd:argocd/checkout/2022-08-22T03:50:00Z/Succeeded",
            ChangeKind::Deploy,
            "4f6a1b",
        ),
        (
            "flux:HelmRelease/shop/checkout/1.2.0/UpgradeSucceeded",
            ChangeKind::Deploy,
            "1.2.0",
        ),
        (
            "kubernetes:8f0e/3",
            ChangeKind::Deploy,
            "registry.shop.test/checkout:1.2",
        ),
        ("launchdarkly:62ff", ChangeKind::Flag, "new-tax"),
        ("terraform:run-FwnE", ChangeKind::Config, "run-FwnE"),
    ];
    for (found, (id, kind, artifact)) in found.iter().zip(expected) {
        assert_eq!(found, &(id.to_owned(), kind, artifact.to_owned()));
    }
    assert_eq!(
        (found[7].1, found[7].2.as_str(), found[7].0.len()),
        (ChangeKind::Deploy, "1.2", 36)
    );
    assert_eq!(
        change(ChangeFormat::Plain, PLAIN).id,
        change(ChangeFormat::Plain, &PLAIN.replace("19Z", "19.0Z")).id
    );
}

#[test]
fn which_tool_it_is_of_is_told_by_what_is_in_it() {
    for (format, text) in ALL {
        let event: Value = serde_json::from_str(text).unwrap();
        assert_eq!(sniff_change(&event).unwrap().format, format);
        assert_eq!(read(ChangeFormat::Auto, text), read(format, text));
    }
    let cdevent = r#"{"context":{"specversion":"0.5.1","id":"1","source":"/ci","type":"dev.cdevents.service.deployed.0.3.0","timestamp":"2022-08-22T03:51:19Z"},"subject":{"id":"checkout","content":{"artifactId":"pkg:oci/checkout@1.2"}}}"#;
    assert_eq!(&*change(ChangeFormat::Auto, cdevent).service, "checkout");
    let enveloped =
        format!(r#"{{"specversion":"1.0","id":"1","source":"/argo","type":"com.shop.sync","data":{ARGOCD}}}"#);
    assert_eq!(
        change(ChangeFormat::Auto, &enveloped),
        change(ChangeFormat::Argocd, ARGOCD)
    );
    for (text, expected) in [
        (
            r#"{"what":1,"when":2}"#,
            "no valid change of any format that is known: it is JSON with `what`, `when`, which no tool that is known announces changes by: send service, version, kind, environment and time",
        ),
        (
            "[1]",
            "no valid change of any format that is known at byte 0: not an object",
        ),
        (
            "deploy!",
            "no valid change of any format that is known at byte 0: expected value",
        ),
        (
            " ",
            "the record is empty, where change of any format that is known was expected",
        ),
    ] {
        assert_eq!(read(ChangeFormat::Auto, text).unwrap_err().to_string(), expected);
    }
}

#[test]
fn what_changes_nothing_that_runs_is_passed_over_with_its_reason() {
    use ChangeFormat::*;
    for (format, text, expected) in [
        (
            Github,
            GITHUB.replace(r#""state":"success""#, r#""state":"failure""#),
            "deployment_status failure",
        ),
        (
            Github,
            r#"{"action":"opened","pull_request":{}}"#.to_owned(),
            "no deployment, but an action opened",
        ),
        (
            Gitlab,
            GITLAB.replace(r#""status":"success""#, r#""status":"canceled""#),
            "deployment canceled",
        ),
        (
            Gitlab,
            GITLAB.replace(r#""object_kind":"deployment""#, r#""object_kind":"push""#),
            "push",
        ),
        (Argocd, ARGOCD.replace("Succeeded", "Failed"), "application with Failed"),
        (
            Flux,
            FLUX.replace("UpgradeSucceeded", "ArtifactUpToDate"),
            "ArtifactUpToDate",
        ),
        (
            Flux,
            FLUX.replace("HelmRelease", "GitRepository"),
            "UpgradeSucceeded of a GitRepository",
        ),
        (
            Kubernetes,
            KUBERNETES.replace(r#""generation":4"#, r#""generation":5"#),
            "a Deployment that its controller has not seen yet",
        ),
        (
            Kubernetes,
            KUBERNETES.replace("MODIFIED", "DELETED"),
            "a Deployment that was deleted, without a time",
        ),
        (
            Kubernetes,
            r#"{"type":"ADDED","object":{"kind":"Pod"}}"#.to_owned(),
            "a Pod",
        ),
        (
            Launchdarkly,
            LAUNCHDARKLY.replace("updateOn", "updateTags"),
            "flag updateTags",
        ),
        (
            Launchdarkly,
            LAUNCHDARKLY.replace(r#""kind":"flag""#, r#""kind":"member""#),
            "member",
        ),
        (
            Terraform,
            TERRAFORM.replace(r#""run_status":"applied""#, r#""run_status":"planning""#),
            "run:completed (planning)",
        ),
    ] {
        assert_eq!(passed_over(format, &text), expected);
    }
}

#[test]
fn what_each_tool_tells_in_other_ways_is_read_too() {
    let asked: String = GITHUB
        .replace(r#""deployment_status":{"#, r#""before":{"#)
        .replace(r#""payload":{}"#, r#""payload":"{\"service\":\"pay\"}""#);
    let asked = change(
        ChangeFormat::Github,
        &asked.replace(r#""task":"deploy""#, r#""task":"rollback""#),
    );
    assert_eq!(
        (&*asked.service, asked.kind, &*asked.id),
        ("pay", ChangeKind::Rollback, "github:shop/checkout/deployments/145988")
    );
    let rolled = change(
        ChangeFormat::Flux,
        &FLUX.replace("UpgradeSucceeded", "RollbackSucceeded"),
    );
    assert_eq!(rolled.kind, ChangeKind::Rollback);
    let gone = KUBERNETES.replace(
        r#""uid":"8f0e""#,
        r#""uid":"8f0e","deletionTimestamp":"2022-08-22T03:51:19Z""#,
    );
    assert_eq!(change(ChangeFormat::Kubernetes, &gone).kind, ChangeKind::Removal);
    // the same revision further on is the same change
    let done = KUBERNETES
        .replace("ReplicaSetUpdated", "NewReplicaSetAvailable")
        .replace("03:51:19Z", "03:55:00Z");
    assert_eq!(
        change(ChangeFormat::Kubernetes, &done).id,
        change(ChangeFormat::Kubernetes, KUBERNETES).id
    );
    let set = r#"{"kind":"StatefulSet","metadata":{"name":"db","uid":"1","generation":2,"managedFields":[{"operation":"Apply","time":"2022-08-22T03:51:19Z"},{"operation":"Update","subresource":"status","time":"2022-08-23T00:00:00Z"}]},"status":{"observedGeneration":2,"updateRevision":"db-7"}}"#;
    let set = change(ChangeFormat::Kubernetes, set);
    assert_eq!((set.at.as_millis(), &*set.id), (1_661_140_279_000, "kubernetes:1/db-7"));
}

#[test]
fn what_lacks_its_service_or_time_is_refused() {
    use ChangeFormat::*;
    for (format, text, expected) in [
        (
            Plain,
            PLAIN.replace("\"checkout\"", "\" \""),
            "`service` is missing: a change must name the service it was made to, as its telemetry names it",
        ),
        (
            Plain,
            PLAIN.replace("\"deploy\"", "\"magic\""),
            "`kind` is \"magic\": write deploy, rollback, removal, config, flag or other",
        ),
        (
            Plain,
            PLAIN.replace("2022-08-22T03:51:19Z", "today"),
            "`time` is \"today\": say when it was made, as RFC 3339 or a number since the epoch",
        ),
        (
            Gitlab,
            GITLAB.replace("2022-08-22 05:51:19 +0200", "2022-08-22 05:51:19"),
            "`status_changed_at` is \"2022-08-22 05:51:19\": say when it was made, as RFC 3339 or a number since the epoch",
        ),
        (
            Launchdarkly,
            LAUNCHDARKLY
                .replace("service:checkout", "x")
                .replace("proj/shop", "proj/default"),
            "`currentVersion.tags` is missing: give the flag a tag such as service:checkout, by the name that the service's telemetry has",
        ),
        (
            Github,
            GITHUB.replace(r#""id":145988"#, r#""no":145988"#),
            "`deployment.id` is missing: without it, an announcement that is made again would count twice",
        ),
        (
            Argocd,
            "{}".to_owned(),
            "`kind` is missing: send the application as the template's body: {{ toJson .app }}",
        ),
    ] {
        assert_eq!(read(format, &text).unwrap_err().to_string(), expected);
    }
}

#[test]
fn no_corruption_makes_it_panic_or_loses_one_without_a_word() {
    for (format, text) in ALL {
        corrupt::each(text.as_bytes(), |bytes, _| {
            for format in [format, ChangeFormat::Auto] {
                match format.decoder().decode(Headers::default(), Some(bytes)) {
                    Ok(ChangeEvent::Change(change)) => {
                        assert!(!change.service.trim().is_empty() && !change.id.is_empty())
                    }
                    Ok(ChangeEvent::Ignored(what)) => assert!(!what.is_empty()),
                    Err(error) => assert!(!error.to_string().is_empty()),
                }
            }
        });
    }
}
