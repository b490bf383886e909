//! The formats that a pipeline file can name, and what each must be able to do. A new one is a file beside this one, a variant
//! here, and its line in `decoder`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use suture_event::{Change, Headers};

use crate::{
    DecodeError, Decoded, Limits, Sink, Sniffed, arrow, cdevents, changes, fields, influx,
    json::{self, Outlines},
    otlp::{self, Encoding, Histograms},
    remote_write, sniff, vector,
};

/// Decodes the records of a telemetry topic. Keep one a shard: it holds memory that is used again, and what decoding a record
/// needs to know of those before it.
pub trait TelemetryDecoder: Send {
    /// Hands every good sample of a record to `sink`, in their order. What is wrong with the others is in
    /// [`Decoded::rejected`].
    ///
    /// # Errors
    /// Where the record as a whole holds nothing that can be used.
    fn decode(&mut self, bytes: &[u8], sink: &mut dyn Sink) -> Result<Decoded, DecodeError>;

    /// Appends the sample of a record that holds a single one whose series can be told from its bytes; `false`, and nothing
    /// appended, for any other. Worth it only where that is far cheaper than decoding.
    fn outline(&self, bytes: &[u8], outlines: &mut Outlines) -> bool {
        let _ = (bytes, outlines);
        false
    }

    /// What later records will be read by, for the shard's snapshot.
    fn memory(&self) -> Histograms {
        Histograms::default()
    }

    /// What a decoder that tells formats by itself has found since it was asked last: each format once.
    fn found(&mut self) -> Option<Sniffed> {
        None
    }

    /// Goes on from a snapshot.
    fn restore(&mut self, memory: Histograms) {
        let _ = memory;
    }
}

/// What the record of a topic of changes turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub enum ChangeEvent {
    /// A change.
    Change(Change),
    /// Well-formed, of this type, and no change.
    Ignored(String),
}

/// Decodes the records of a topic of changes.
pub trait ChangeDecoder: Send + Sync {
    /// Reads a record.
    ///
    /// # Errors
    /// Where it is not what it must be, or a change names no service.
    fn decode(&self, headers: Headers<'_>, value: Option<&[u8]>) -> Result<ChangeEvent, DecodeError>;
}

/// How telemetry records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TelemetryFormat {
    /// `{"ts": …, "metric": …, "value": …, "labels": {…}}`, an array of such, or several joined by line ends; with `fields`,
    /// JSON of any other shape.
    #[default]
    Json,
    /// OTLP export requests as Protocol Buffers: the OpenTelemetry Collector's `otlp_proto`.
    OtlpProto,
    /// OTLP export requests as JSON: the OpenTelemetry Collector's `otlp_json`.
    OtlpJson,
    /// An Arrow IPC stream of record batches with the columns `ts`, `metric`, `value` and `labels`, or a column of text for
    /// each label: many samples a record, at a tenth of the cost.
    ArrowIpc,
    /// InfluxDB line protocol with timestamps in nanoseconds, as Telegraf writes it: each field is a sample of
    /// `MEASUREMENT_FIELD`, or of the measurement alone where the field is called `value`, `counter` or `gauge`.
    Influx,
    /// Prometheus remote write, versions 1 and 2: Snappy and Protocol Buffers.
    PrometheusRemoteWrite,
    /// JSON, or Avro-JSON, as prometheus-kafka-adapter writes it: `{"timestamp": …, "value": "…", "name": …, "labels": {…}}`.
    PrometheusKafkaAdapter,
    /// JSON as Telegraf writes it, one metric a record or in batches: `{"name": …, "fields": {…}, "tags": {…}, "timestamp": …}`.
    TelegrafJson,
    /// Metrics as Vector writes them in JSON.
    Vector,
    /// Whichever of these a record is of, by what is in it: what was found is logged. Naming the format is cheaper.
    Auto,
}

impl TelemetryFormat {
    /// A decoder of records of this format, which holds them to these limits.
    #[must_use]
    pub fn decoder(self, limits: Limits) -> Box<dyn TelemetryDecoder> {
        match self {
            Self::Json => Box::new(json::Decoder::new(limits)),
            Self::OtlpProto => Box::new(otlp::Decoder::new(Encoding::Proto, limits)),
            Self::OtlpJson => Box::new(otlp::Decoder::new(Encoding::Json, limits)),
            Self::ArrowIpc => Box::new(arrow::Decoder::new(limits)),
            Self::Influx => Box::new(influx::Decoder::new(limits)),
            Self::PrometheusRemoteWrite => Box::new(remote_write::Decoder::new(limits)),
            Self::PrometheusKafkaAdapter => Box::new(fields::Decoder::prometheus_kafka_adapter(limits)),
            Self::TelegrafJson => Box::new(fields::Decoder::telegraf(limits)),
            Self::Vector => Box::new(vector::Decoder::new(limits)),
            Self::Auto => Box::new(sniff::Decoder::new(limits)),
        }
    }
}

/// How change records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeFormat {
    /// CDEvents 0.3 to 0.6, plain or in a CloudEvents envelope, structured or binary.
    #[default]
    Cdevents,
    /// GitHub's webhooks `deployment` and `deployment_status`.
    Github,
    /// GitLab's webhook of deployments.
    Gitlab,
    /// Applications of Argo CD, as a notification's template sends them.
    Argocd,
    /// Events of Flux's notification controller.
    Flux,
    /// Deployments and other objects of Kubernetes that run pods, and Argo's Rollouts, as they are or as watch events.
    Kubernetes,
    /// LaunchDarkly's webhook.
    Launchdarkly,
    /// Notifications of Terraform's runs.
    Terraform,
    /// `{"service": …, "version": …, "kind": …, "environment": …, "time": …}`.
    Plain,
    /// Whichever of these a record is of, by what is in it.
    Auto,
}

impl ChangeFormat {
    /// The decoder of records of this format.
    #[must_use]
    pub fn decoder(self) -> &'static dyn ChangeDecoder {
        match self {
            Self::Cdevents => &cdevents::Decoder,
            Self::Github => &changes::GITHUB,
            Self::Gitlab => &changes::GITLAB,
            Self::Argocd => &changes::ARGOCD,
            Self::Flux => &changes::FLUX,
            Self::Kubernetes => &changes::KUBERNETES,
            Self::Launchdarkly => &changes::LAUNCHDARKLY,
            Self::Terraform => &changes::TERRAFORM,
            Self::Plain => &changes::PLAIN,
            Self::Auto => &changes::Any,
        }
    }
}
