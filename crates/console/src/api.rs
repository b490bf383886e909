//! The HTTP API, its OpenAPI document, and everything that a request passes before it is answered.

use std::{convert::Infallible, sync::Arc, time::Duration};

use aide::{
    OperationOutput,
    axum::{
        ApiRouter,
        routing::{get_with, post_with},
    },
    generate::GenContext,
    openapi::{Info, OpenApi, Operation, Response as Documented, SecurityScheme},
    transform::TransformOperation,
};
use axum::{
    Extension, Json, Router,
    extract::{DefaultBodyLimit, Path, Query, Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{AUTHORIZATION, CACHE_CONTROL, HOST, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    middleware::{self, Next},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::get,
};
use futures::{Stream, stream};
use governor::DefaultDirectRateLimiter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use suture_event::{CommandKind, IncidentStatus};
use tokio::sync::Semaphore;

use crate::{
    access::{self, Owner, Role, Tokens},
    host::{Host, Refusal, Word},
    page,
    plot::Plots,
    store::Store,
    view::{IncidentView, Incidents, LedgerPage, Me, NearMiss, Overview, Pipeline, SeriesView},
};

/// The version of the API, which stands in every path. Fields may be added in it; none goes away or changes its meaning.
pub const API_VERSION: &str = "v1";

/// What requests are held to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a request's body.
    pub body: usize,
    /// Connections at once; others wait.
    pub connections: usize,
    /// Requests of the owner of a token a second.
    pub per_second: u32,
    /// And at once.
    pub burst: u32,
    /// Requests without a good token a second, from everybody together; and at once.
    pub strangers: u32,
    /// Streams of events at once.
    pub streams: usize,
    /// Streams are told of news no more often than every so many milliseconds.
    pub news_millis: u64,
    /// Items of a list, where a request asks for more or for none.
    pub most: usize,
    /// Series in an incident's plots.
    pub plots: usize,
    /// Points of each.
    pub points: usize,
    /// Names that this server may be called by, without a port; absent: any.
    pub names: Option<Vec<String>>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 16 << 10,
            connections: 256,
            per_second: 50,
            burst: 200,
            strangers: 20,
            streams: 64,
            news_millis: 500,
            most: 500,
            plots: 24,
            points: 600,
            names: None,
        }
    }
}

/// What a console consists of.
pub struct Console {
    /// What is looked at.
    pub store: Arc<Store>,
    /// Who may look.
    pub tokens: Tokens,
    /// Who takes people's words.
    pub host: Result<Arc<dyn Host>, String>,
    /// What requests are held to.
    pub limits: Limits,
}

struct Inner {
    console: Console,
    strangers: DefaultDirectRateLimiter,
    streams: Arc<Semaphore>,
}

type Shared = State<Arc<Inner>>;

/// Why a request is not answered as it wished.
#[derive(Debug, Serialize, JsonSchema)]
struct Failure {
    /// What is wrong, and what to do.
    error: String,
    #[serde(skip)]
    #[schemars(skip)]
    status: u16,
}

impl Failure {
    fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self {
            error: error.into(),
            status: status.as_u16(),
        }
    }

    fn unknown(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("no such {what} is kept here"))
    }
}

impl OperationOutput for Failure {
    type Inner = Self;

    fn operation_response(context: &mut GenContext, operation: &mut Operation) -> Option<Documented> {
        Json::<Self>::operation_response(context, operation)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(&self)).into_response();
        match status {
            StatusCode::UNAUTHORIZED => {
                response
                    .headers_mut()
                    .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS => {
                response
                    .headers_mut()
                    .insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

type Answer<T> = Result<Json<T>, Failure>;

#[derive(Debug, Deserialize, JsonSchema)]
struct ById {
    /// An id.
    id: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct ByScope {
    /// A scope.
    scope: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct WhichIncidents {
    /// Only those that are open, or that are resolved.
    status: Option<IncidentStatus>,
    /// Only those whose title, id or services hold this.
    q: Option<String>,
    /// So many at most.
    limit: Option<usize>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct WhichRecords {
    /// Only those whose text holds this.
    q: Option<String>,
    /// Only those of this kind.
    kind: Option<String>,
    /// Only those of this scope.
    scope: Option<String>,
    /// Only those of this incident.
    incident: Option<String>,
    /// So many at most.
    limit: Option<usize>,
    /// Passing over so many.
    skip: Option<usize>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct WhichSeries {
    /// Only those whose metric or labels hold this.
    q: Option<String>,
    /// So many at most.
    limit: Option<usize>,
}

/// Why something is asked.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Reason {
    /// Why: it goes into the ledger.
    reason: String,
}

/// What an incident was.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Label {
    /// It was one.
    True,
    /// It was none.
    FalseAlarm,
    /// Somebody was at work there.
    Maintenance,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LabelReason {
    /// What the incident was.
    label: Label,
    /// Why: it goes into the ledger.
    reason: String,
}

/// A word that was passed on. What comes of it is seen in the ledger.
#[derive(Debug, Serialize, JsonSchema)]
struct Passed {
    /// The command's id.
    command: Arc<str>,
}

/// What every request may be answered.
fn asks(summary: &'static str) -> impl FnOnce(TransformOperation<'_>) -> TransformOperation<'_> {
    move |operation| {
        operation
            .summary(summary)
            .response::<401, Json<Failure>>()
            .response::<403, Json<Failure>>()
            .response::<429, Json<Failure>>()
    }
}

/// What a request for something by its id may be answered.
fn finds(summary: &'static str) -> impl FnOnce(TransformOperation<'_>) -> TransformOperation<'_> {
    move |operation| asks(summary)(operation).response::<404, Json<Failure>>()
}

/// What a word may be answered.
fn says(summary: &'static str) -> impl FnOnce(TransformOperation<'_>) -> TransformOperation<'_> {
    move |operation| {
        finds(summary)(operation)
            .response::<202, Json<Passed>>()
            .response::<400, Json<Failure>>()
            .response::<409, Json<Failure>>()
            .response::<503, Json<Failure>>()
    }
}

fn routes() -> ApiRouter<Arc<Inner>> {
    ApiRouter::new()
        .api_route("/api/v1/me", get_with(me, asks("Who is asking, and what they may do")))
        .api_route("/api/v1/overview", get_with(overview, asks("How things are")))
        .api_route(
            "/api/v1/incidents",
            get_with(incidents, asks("Incidents, the newest first")),
        )
        .api_route(
            "/api/v1/incidents/{id}",
            get_with(incident, finds("An incident, with everything known about it")),
        )
        .api_route(
            "/api/v1/incidents/{id}/plots",
            get_with(plots, finds("What its signals looked like")),
        )
        .api_route(
            "/api/v1/ledger",
            get_with(
                ledger,
                asks("Decisions, the newest first, and whether their chains hold"),
            ),
        )
        .api_route(
            "/api/v1/pipeline",
            get_with(pipeline, asks("The way from topics to decisions")),
        )
        .api_route(
            "/api/v1/events",
            get_with(events, |operation| {
                asks("A stream of server-sent events, each naming what is new")(operation)
                    .response::<200, String>()
                    .response::<503, Json<Failure>>()
            }),
        )
        .api_route(
            "/api/v1/actions/{id}/approve",
            post_with(approve, says("Let a supervised action go ahead")),
        )
        .api_route("/api/v1/actions/{id}/deny", post_with(deny, says("Do not let it")))
        .api_route(
            "/api/v1/actions/{id}/undo",
            post_with(undo, says("Undo an action that was done")),
        )
        .api_route(
            "/api/v1/incidents/{id}/acknowledge",
            post_with(acknowledge, says("Take an incident")),
        )
        .api_route(
            "/api/v1/incidents/{id}/label",
            post_with(label, says("Say what an incident really was")),
        )
        .api_route(
            "/api/v1/scopes/{scope}/freeze",
            post_with(freeze, says("Let nothing more be done in a scope")),
        )
        .api_route(
            "/api/v1/scopes/{scope}/thaw",
            post_with(thaw, says("Let actions be done again")),
        )
        .api_route(
            "/api/openapi.json",
            get_with(openapi, |operation| {
                asks("This document")(operation).response::<200, Json<serde_json::Value>>()
            }),
        )
}

/// The API's document, as it is served: made of the handlers' own types, so that it says what they do.
#[must_use]
pub fn document() -> OpenApi {
    documented().1
}

fn documented() -> (Router<Arc<Inner>>, OpenApi) {
    aide::generate::extract_schemas(true);
    let mut document = OpenApi {
        info: Info {
            title: "Suture".to_owned(),
            version: API_VERSION.to_owned(),
            description: Some("What Suture sees, decides and does, and what people say to it.".to_owned()),
            ..Info::default()
        },
        ..OpenApi::default()
    };
    let router = routes().finish_api_with(&mut document, |api| {
        let bearer = SecurityScheme::Http {
            scheme: "bearer".to_owned(),
            bearer_format: None,
            description: Some("A token of somebody's, from the token file.".to_owned()),
            extensions: Default::default(),
        };
        api.security_scheme("token", bearer).security_requirement("token")
    });
    (router, document)
}

/// Everything: the API, which nobody uses without a token, the page, which holds nothing, and `/healthz`.
pub fn router(console: Console) -> Router {
    let (api, document) = documented();
    let document: Arc<str> = serde_json::to_string(&document).unwrap_or_default().into();
    let limits = console.limits.clone();
    let inner = Arc::new(Inner {
        strangers: access::pace(limits.strangers, limits.strangers),
        streams: Arc::new(Semaphore::new(limits.streams)),
        console,
    });
    let api = api
        .route(
            "/api/{*rest}",
            axum::routing::any(|| async { Failure::unknown("thing") }),
        )
        .layer(Extension(Document(document)))
        .layer(DefaultBodyLimit::max(limits.body))
        .layer(middleware::from_fn_with_state(inner.clone(), admit))
        .with_state(inner);
    let mut page = Router::new();
    for asset in page::assets() {
        page = page.route(asset.path, get(page::send).with_state(asset));
    }
    let policy = HeaderValue::from_str(&page::policy()).unwrap_or(HeaderValue::from_static("default-src 'none'"));
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .merge(page)
        .merge(api)
        .layer(middleware::from_fn(move |request: Request, next: Next| {
            let policy = policy.clone();
            async move { guarded(next.run(request).await, policy) }
        }))
}

/// What every answer tells browsers.
fn guarded(mut response: Response, policy: HeaderValue) -> Response {
    let fixed = [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        (
            "permissions-policy",
            "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        ),
        ("x-frame-options", "DENY"),
    ];
    let headers = response.headers_mut();
    for (name, value) in fixed {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.insert(HeaderName::from_static("content-security-policy"), policy);
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Who is asking, and whether they may now.
async fn admit(State(inner): Shared, mut request: Request, next: Next) -> Result<Response, Failure> {
    let owner = {
        let headers = request.headers();
        let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let site = text(HeaderName::from_static("sec-fetch-site"));
        access::same_origin(text(HOST), text(ORIGIN), site, inner.console.limits.names.as_deref())
            .map_err(|why| Failure::new(StatusCode::FORBIDDEN, why))?;
        let owner = bearer(headers).and_then(|token| inner.console.tokens.owner(token));
        let Some(owner) = owner else {
            inner.strangers.check().map_err(|_| too_many())?;
            return Err(Failure::new(
                StatusCode::UNAUTHORIZED,
                "a token is needed: `Authorization: Bearer TOKEN`",
            ));
        };
        owner.pace.check().map_err(|_| too_many())?;
        owner.clone()
    };
    request.extensions_mut().insert(owner);
    Ok(next.run(request).await)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn too_many() -> Failure {
    Failure::new(
        StatusCode::TOO_MANY_REQUESTS,
        "too many requests: try again in a second",
    )
}

#[derive(Clone)]
struct Document(Arc<str>);

async fn openapi(Extension(Document(text)): Extension<Document>) -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(axum::http::header::CONTENT_TYPE, json)], text.to_string()).into_response()
}

async fn me(State(inner): Shared, Extension(owner): Extension<Arc<Owner>>) -> Json<Me> {
    Json(Me {
        who: owner.who.clone(),
        role: owner.role,
        read_only: inner.console.host.as_ref().err().cloned(),
        setting: inner.console.store.read().setting.clone(),
    })
}

async fn overview(State(inner): Shared) -> Json<Overview> {
    Json(inner.console.store.read().overview(RESOLVED, ACTIONS))
}

/// Resolved incidents and actions that the overview shows.
const RESOLVED: usize = 20;
const ACTIONS: usize = 20;

impl Inner {
    fn most(&self, asked: Option<usize>) -> usize {
        let most = self.console.limits.most;
        asked.map_or(most.min(100), |asked| asked.min(most))
    }
}

async fn incidents(State(inner): Shared, Query(which): Query<WhichIncidents>) -> Json<Incidents> {
    let state = inner.console.store.read();
    let q = which.q.unwrap_or_default().to_lowercase();
    let fits = |case: &&crate::store::Case| {
        let incident = &case.incident;
        let holds = |text: &str| text.to_lowercase().contains(&q);
        which.status.is_none_or(|status| incident.status == status)
            && (q.is_empty()
                || holds(&incident.title)
                || holds(&incident.id)
                || incident.services.iter().any(|service| holds(service)))
    };
    let mut fitting: Vec<_> = state.incidents.values().filter(fits).collect();
    fitting.sort_by_key(|case| std::cmp::Reverse((case.incident.opened_at, case.incident.id.clone())));
    Json(Incidents {
        matching: fitting.len(),
        incidents: fitting
            .into_iter()
            .take(inner.most(which.limit))
            .map(|case| state.brief(case))
            .collect(),
    })
}

async fn incident(State(inner): Shared, Path(by): Path<ById>) -> Answer<IncidentView> {
    let state = inner.console.store.read();
    let view = state.incident_view(&by.id, inner.console.limits.most);
    view.map(Json).ok_or_else(|| Failure::unknown("incident"))
}

async fn plots(State(inner): Shared, Path(by): Path<ById>) -> Answer<Plots> {
    let limits = &inner.console.limits;
    let plots = inner.console.store.read().plots(&by.id, limits.plots, limits.points);
    plots.map(Json).ok_or_else(|| Failure::unknown("incident"))
}

async fn ledger(State(inner): Shared, Query(which): Query<WhichRecords>) -> Json<LedgerPage> {
    let state = inner.console.store.read();
    let q = which.q.unwrap_or_default().to_lowercase();
    let fits = |entry: &&crate::ledger::Entry| {
        let record = &entry.record;
        which.kind.as_deref().is_none_or(|kind| *record.kind == *kind)
            && which.scope.as_deref().is_none_or(|scope| *record.scope == *scope)
            && which.incident.is_none_or_same(entry.incident.as_deref())
            && (q.is_empty()
                || serde_json::to_string(record.as_ref()).is_ok_and(|text| text.to_lowercase().contains(&q)))
    };
    let fitting: Vec<_> = state.ledger.entries.iter().rev().filter(fits).collect();
    let kinds: std::collections::BTreeSet<Arc<str>> = state
        .ledger
        .entries
        .iter()
        .map(|entry| entry.record.kind.clone())
        .collect();
    Json(LedgerPage {
        matching: fitting.len(),
        records: fitting
            .into_iter()
            .skip(which.skip.unwrap_or(0))
            .take(inner.most(which.limit))
            .map(|entry| suture_event::LedgerRecord::clone(&entry.record))
            .collect(),
        kept: state.ledger.entries.len(),
        kinds: kinds.into_iter().collect(),
        chains: state.ledger.chains(),
    })
}

trait Same {
    fn is_none_or_same(&self, other: Option<&str>) -> bool;
}

impl Same for Option<String> {
    fn is_none_or_same(&self, other: Option<&str>) -> bool {
        self.as_deref().is_none_or(|asked| Some(asked) == other)
    }
}

async fn pipeline(State(inner): Shared, Query(which): Query<WhichSeries>) -> Json<Pipeline> {
    let kept = inner.console.store.sizes();
    let state = inner.console.store.read();
    let q = which.q.unwrap_or_default().to_lowercase();
    let fits = |(key, _): &(&suture_event::SeriesKey, &String)| {
        q.is_empty() || format!("{} {}", key.metric, key.labels).to_lowercase().contains(&q)
    };
    let most = inner.most(which.limit);
    let fitting: Vec<_> = state.explained.iter().filter(fits).collect();
    let missed = |verdict: &&suture_engine::Verdict| {
        use suture_engine::VerdictOutcome::{Joined, Opened};
        !matches!(verdict.outcome, Opened { .. } | Joined { .. })
    };
    Json(Pipeline {
        setting: state.setting.clone(),
        stages: state.stages.clone(),
        matching: fitting.len(),
        series: fitting
            .into_iter()
            .take(most)
            .map(|(key, explained)| SeriesView {
                metric: key.metric.clone(),
                labels: key.labels.clone(),
                explained: explained.clone(),
            })
            .collect(),
        near_misses: state
            .near_misses
            .iter()
            .rev()
            .filter(missed)
            .take(most)
            .map(NearMiss::of)
            .collect(),
        kept,
        windows_left_out: state.histories.left_out,
    })
}

/// One event each time that something is new, and no more often than the bound says: whoever cannot keep up misses none of
/// what is new, only how often it was.
async fn events(State(inner): Shared) -> Result<Response, Failure> {
    let place = inner.streams.clone().try_acquire_owned();
    let place = place.map_err(|_| {
        Failure::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "as many streams are open as may be: ask for the overview now and then",
        )
    })?;
    let every = Duration::from_millis(inner.console.limits.news_millis);
    Ok(Sse::new(news(inner, every, place))
        .keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
        .into_response())
}

fn news(
    inner: Arc<Inner>,
    every: Duration,
    place: tokio::sync::OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Event, Infallible>> {
    let watch = inner.console.store.watch();
    let begin = (inner, watch, place, None::<u64>);
    stream::unfold(begin, move |(inner, mut watch, place, told)| async move {
        if told.is_some() {
            tokio::time::sleep(every).await;
            watch.wait_for(|version| Some(*version) > told).await.ok()?;
        }
        let news = inner.console.store.since(told.unwrap_or(u64::MAX));
        let event = Event::default()
            .event("news")
            .data(serde_json::to_string(&news).unwrap_or_default());
        Some((Ok(event), (inner, watch, place, Some(news.version))))
    })
}

/// Passes a word on: for whoever may say it, where anybody takes it, and about something that is there.
async fn pass(
    inner: Arc<Inner>,
    owner: Arc<Owner>,
    needs: Role,
    scope: impl FnOnce(&crate::store::State) -> Option<Arc<str>>,
    kind: CommandKind,
    reason: String,
) -> Result<(StatusCode, Json<Passed>), Failure> {
    if owner.role < needs {
        let (role, needs) = (owner.role.name(), needs.name());
        let why = format!("{} is {role}, and this needs {needs}", owner.who);
        return Err(Failure::new(StatusCode::FORBIDDEN, why));
    }
    let host = match &inner.console.host {
        Ok(host) => host.clone(),
        Err(why) => return Err(Failure::new(StatusCode::CONFLICT, why.as_str())),
    };
    if reason.trim().is_empty() {
        return Err(Failure::new(
            StatusCode::BAD_REQUEST,
            "`reason` is empty, and the ledger asks why",
        ));
    }
    let scope = scope(&inner.console.store.read()).ok_or_else(|| Failure::unknown("action, incident or scope"))?;
    let word = Word {
        by: owner.who.clone(),
        scope,
        kind,
        reason,
    };
    let passed = tokio::task::spawn_blocking(move || host.say(&word)).await;
    match passed {
        Ok(Ok(command)) => Ok((StatusCode::ACCEPTED, Json(Passed { command }))),
        Ok(Err(refusal @ Refusal::NoKey(_))) => Err(Failure::new(StatusCode::FORBIDDEN, refusal.to_string())),
        Ok(Err(refusal)) => Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, refusal.to_string())),
        Err(_) => Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "passing it on failed")),
    }
}

type Said = Result<(StatusCode, Json<Passed>), Failure>;

fn of_action(id: &str) -> impl FnOnce(&crate::store::State) -> Option<Arc<str>> {
    move |state| state.actions.get(id).map(|action| action.request.scope.clone())
}

fn of_incident(id: &str) -> impl FnOnce(&crate::store::State) -> Option<Arc<str>> {
    move |state| state.incidents.get(id).map(|case| case.incident.scope.clone())
}

/// A scope that something was said about: commands for others would go nowhere.
fn known(scope: &str) -> impl FnOnce(&crate::store::State) -> Option<Arc<str>> {
    move |state| state.scopes().into_iter().find(|known| **known == *scope)
}

macro_rules! on_action {
    ($name:ident, $kind:ident) => {
        async fn $name(
            State(inner): Shared,
            Extension(owner): Extension<Arc<Owner>>,
            Path(by): Path<ById>,
            Json(why): Json<Reason>,
        ) -> Said {
            let action: Arc<str> = by.id.as_str().into();
            let kind = CommandKind::$kind { action };
            pass(inner, owner, Role::Approver, of_action(&by.id), kind, why.reason).await
        }
    };
}

on_action!(approve, Approve);
on_action!(deny, Deny);
on_action!(undo, Undo);

async fn acknowledge(
    State(inner): Shared,
    Extension(owner): Extension<Arc<Owner>>,
    Path(by): Path<ById>,
    Json(why): Json<Reason>,
) -> Said {
    let incident: Arc<str> = by.id.as_str().into();
    let kind = CommandKind::Acknowledge { incident };
    pass(inner, owner, Role::Operator, of_incident(&by.id), kind, why.reason).await
}

async fn label(
    State(inner): Shared,
    Extension(owner): Extension<Arc<Owner>>,
    Path(by): Path<ById>,
    Json(what): Json<LabelReason>,
) -> Said {
    let label = match what.label {
        Label::True => "true",
        Label::FalseAlarm => "false_alarm",
        Label::Maintenance => "maintenance",
    };
    let (incident, label) = (by.id.as_str().into(), label.into());
    let kind = CommandKind::Label { incident, label };
    pass(inner, owner, Role::Operator, of_incident(&by.id), kind, what.reason).await
}

async fn freeze(
    State(inner): Shared,
    Extension(owner): Extension<Arc<Owner>>,
    Path(by): Path<ByScope>,
    Json(why): Json<Reason>,
) -> Said {
    // stopping is for whoever sees that it must be; starting again is not
    pass(
        inner,
        owner,
        Role::Operator,
        known(&by.scope),
        CommandKind::Freeze,
        why.reason,
    )
    .await
}

async fn thaw(
    State(inner): Shared,
    Extension(owner): Extension<Arc<Owner>>,
    Path(by): Path<ByScope>,
    Json(why): Json<Reason>,
) -> Said {
    pass(
        inner,
        owner,
        Role::Approver,
        known(&by.scope),
        CommandKind::Thaw,
        why.reason,
    )
    .await
}
