//! What holds for every request: where it comes from, how long it takes, what the answer forbids.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use tokio::sync::Semaphore;

use super::limit::{self, Limits};
use super::{App, error};

/// Requests at once. Further ones are sent away.
const REQUESTS: usize = 64;

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of a request's body.
const BODY: usize = 512 * 1024;

/// What stands before a router.
pub struct Guards {
    /// It listens on the loopback alone: its name is known.
    pub loopback: bool,
    /// How often a client may ask.
    pub limits: Arc<Limits>,
}

impl Guards {
    /// Puts the guards before a router.
    pub fn put(&self, router: Router<App>) -> Router<App> {
        let router =
            router.layer(DefaultBodyLimit::max(BODY)).layer(middleware::from_fn(same_origin));
        let router = match self.loopback {
            true => router.layer(middleware::from_fn(known_host)),
            false => router,
        };
        let room = Arc::new(Semaphore::new(REQUESTS));
        let bounded = move |request, next| bounded(room.clone(), request, next);
        router
            .layer(middleware::from_fn(bounded))
            .layer(middleware::from_fn_with_state(self.limits.clone(), limit::limit))
            .layer(middleware::from_fn(headers))
    }
}

async fn bounded(room: Arc<Semaphore>, request: Request, next: Next) -> Response {
    let Ok(_place) = room.try_acquire() else {
        let mut busy = error(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once");
        busy.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        return busy;
    };
    match tokio::time::timeout(PATIENCE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => error(StatusCode::GATEWAY_TIMEOUT, "the answer took too long"),
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// A page of elsewhere that resolves its own name to the loopback address is not to read this one.
async fn known_host(request: Request, next: Next) -> Response {
    let host = text(request.headers(), header::HOST).unwrap_or_default();
    let name =
        host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name).trim_matches(['[', ']']);
    if name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok() {
        return next.run(request).await;
    }
    error(StatusCode::FORBIDDEN, "this interface is reached by localhost or by its address alone")
}

/// A page of elsewhere is not to change anything.
async fn same_origin(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = text(headers, header::HOST).unwrap_or_default();
    let origin = text(headers, header::ORIGIN)
        .map(|origin| origin.split_once("://").map_or(origin, |(_, origin)| origin));
    if !request.method().is_safe()
        && origin.is_some_and(|origin| !origin.eq_ignore_ascii_case(host))
    {
        return error(StatusCode::FORBIDDEN, "a page of elsewhere changes nothing here");
    }
    next.run(request).await
}

async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let policy = "default-src 'none'; connect-src 'self'; img-src 'self' data: blob:; style-src 'self'; \
                  script-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
