//! Requests over a socket, as tools make them.

use hmac::{Hmac, KeyInit as _, Mac as _};
use suture_codec::{ChangeEvent, cdevents};
use suture_event::Change;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
};

use super::*;

const STATUS: &str = r#"{"deployment_status":{"state":"success","created_at":"2022-08-22T03:51:19Z"},"deployment":{"id":1,"sha":"a1b2","environment":"prod"},"repository":{"name":"checkout","full_name":"shop/checkout"}}"#;

struct Served {
    address: SocketAddr,
    file: PathBuf,
    _folder: tempfile::TempDir,
    _stop: oneshot::Sender<()>,
}

impl Served {
    async fn start(unsigned: bool, secrets: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("changes.ndjson");
        let args = Args {
            listen: "127.0.0.1:0".parse().unwrap(),
            github_secret_file: None,
            gitlab_token_file: None,
            launchdarkly_secret_file: None,
            terraform_token_file: None,
            token_file: None,
            unsigned,
            most_bytes: 4_096,
            to: Where {
                pipeline: None,
                topic: None,
                to: Some(file.clone()),
            },
        };
        let environment = |name: &str| {
            secrets
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        };
        let receiver = args.receiver(&environment).unwrap();
        let listener = TcpListener::bind(args.listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(serve(listener, receiver, async {
            let _ = stopped.await;
        }));
        Self {
            address,
            file,
            _folder: folder,
            _stop: stop,
        }
    }

    /// The status and the text of the answer.
    async fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nhost: suture\r\nconnection: close\r\ncontent-length: {}\r\n",
            body.len()
        );
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream
            .write_all(format!("{request}\r\n{body}").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split("\r\n\r\n").nth(1).unwrap().trim().to_owned())
    }

    fn written(&self) -> Vec<Change> {
        let text = std::fs::read_to_string(&self.file).unwrap();
        let read = |line: &str| match cdevents::decode(line.as_bytes()).unwrap() {
            ChangeEvent::Change(change) => change,
            ChangeEvent::Ignored(what) => panic!("{what}"),
        };
        text.lines().map(read).collect()
    }
}

fn signature(secret: &str, body: &str) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    let bytes = mac.finalize().into_bytes();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_webhook_that_is_signed_is_written_and_another_is_refused() {
    let served = Served::start(false, &[("SUTURE_GITHUB_SECRET", "s3cret")]).await;
    let right = format!("sha256={}", signature("s3cret", STATUS));
    let (status, answer) = served.post("/github", &[("X-Hub-Signature-256", &right)], STATUS).await;
    assert_eq!(
        (status, answer.as_str()),
        (
            202,
            "Deploy of checkout at 2022-08-22T03:51:19Z: github:shop/checkout/deployments/1/success"
        )
    );
    let written = served.written();
    let [change] = written.as_slice() else {
        panic!("{written:?}")
    };
    assert_eq!(
        (
            &*change.service,
            change.environment.as_deref(),
            change.artifact.as_deref()
        ),
        ("checkout", Some("prod"), Some("a1b2"))
    );

    let wrong = format!("sha256={}", signature("other", STATUS));
    for (path, headers, body, expected) in [
        ("/github", vec![("x-hub-signature-256", wrong.as_str())], STATUS, 401),
        ("/github", vec![], STATUS, 401),
        ("/gitlab", vec![("x-gitlab-token", "s3cret")], "{}", 401),
        ("/plain", vec![("authorization", "Bearer s3cret")], "{}", 401),
        ("/jenkins", vec![], "{}", 404),
    ] {
        let (status, answer) = served.post(path, &headers, body).await;
        assert_eq!(status, expected, "{path}: {answer}");
        assert!(!answer.contains("s3cret"), "{answer}");
    }
    let ping = r#"{"zen":"Keep it logically awesome.","hook_id":1}"#;
    let right = format!("sha256={}", signature("s3cret", ping));
    let (status, answer) = served.post("/github", &[("x-hub-signature-256", &right)], ping).await;
    assert_eq!(
        (status, answer.as_str()),
        (200, "no change, passed over: no deployment")
    );
    assert_eq!(served.written().len(), 1);
}

#[tokio::test]
async fn what_is_not_signed_is_taken_where_it_was_told_and_what_is_no_change_is_refused() {
    let served = Served::start(true, &[("SUTURE_GITLAB_TOKEN", "s3cret")]).await;
    let plain = r#"{"service":"cart","version":"1.2","time":"2022-08-22T03:51:19Z"}"#;
    assert_eq!(served.post("/plain", &[], plain).await.0, 202);
    // a secret that is there counts all the same
    assert_eq!(served.post("/gitlab", &[], r#"{"object_kind":"push"}"#).await.0, 401);
    assert_eq!(
        served
            .post("/gitlab", &[("x-gitlab-token", "s3cret")], r#"{"object_kind":"push"}"#)
            .await
            .0,
        200
    );
    let (status, answer) = served.post("/plain", &[], r#"{"service":"cart"}"#).await;
    assert_eq!(
        (status, answer.starts_with("`time` is missing")),
        (422, true),
        "{answer}"
    );
    assert_eq!(served.post("/plain", &[], "{").await.0, 422);
    assert_eq!(
        served
            .post("/plain", &[], &format!("{{\"service\":\"{}\"}}", "x".repeat(5_000)))
            .await
            .0,
        413
    );
    let binary = [
        ("ce-specversion", "1.0"),
        ("ce-id", "7"),
        ("ce-source", "/cd"),
        ("ce-type", "com.shop.deploy"),
        ("content-type", "application/json"),
    ];
    assert_eq!(served.post("/plain", &binary, plain).await.0, 202);
    assert_eq!(served.written().len(), 2);
}

#[test]
fn without_a_secret_it_does_not_start_unless_it_is_told_to() {
    let args = |unsigned| Args {
        listen: "127.0.0.1:0".parse().unwrap(),
        github_secret_file: None,
        gitlab_token_file: None,
        launchdarkly_secret_file: None,
        terraform_token_file: None,
        token_file: None,
        unsigned,
        most_bytes: 1,
        to: Where {
            pipeline: None,
            topic: None,
            to: Some(std::env::temp_dir()),
        },
    };
    let refused = args(false).receiver(&|_| None).err().unwrap().to_string();
    assert!(refused.contains("--unsigned"), "{refused}");
    let folder = args(true).receiver(&|_| None).err().unwrap().to_string();
    assert!(folder.contains("cannot open"), "{folder}");
}
