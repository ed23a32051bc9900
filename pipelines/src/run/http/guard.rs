//! What holds for every request: where it comes from, how long it takes, what the answer forbids.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use tokio::sync::Semaphore;

use super::access::Access;
use super::limit::{self, Limits};
use super::{App, error};

/// Requests at once of those who may read everything. Further ones are sent away.
const REQUESTS: usize = 64;

/// Requests at once of those who have no token where one is set: they do not hold up the others.
const STRANGERS: usize = 32;

/// Requests at once of what watches the service: health, and metrics with the token.
const WATCHERS: usize = 16;

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of a request's body.
const BODY: usize = 512 * 1024;

/// What stands before a router.
pub struct Guards {
    /// It listens on the loopback alone, and no token is set: its name is known.
    pub loopback: bool,
    /// Who has the token.
    pub access: Arc<Access>,
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
        let rooms = Arc::new(Rooms::new(self.access.clone()));
        let bounded = move |request, next| bounded(rooms.clone(), request, next);
        router
            .layer(middleware::from_fn(bounded))
            .layer(middleware::from_fn_with_state(self.limits.clone(), limit::limit))
            .layer(middleware::from_fn(headers))
    }
}

/// Places for requests.
struct Rooms {
    access: Arc<Access>,
    known: Semaphore,
    strangers: Semaphore,
    watchers: Semaphore,
}

impl Rooms {
    fn new(access: Arc<Access>) -> Self {
        let [known, strangers, watchers] = [REQUESTS, STRANGERS, WATCHERS].map(Semaphore::new);
        Self { access, known, strangers, watchers }
    }

    /// Where the request has its place.
    fn of(&self, request: &Request) -> &Semaphore {
        let path = request.uri().path();
        match self.access.allows(request.headers()) {
            _ if limit::is_health(path) => &self.watchers,
            true if limit::is_watching(path) => &self.watchers,
            true => &self.known,
            false => &self.strangers,
        }
    }
}

async fn bounded(rooms: Arc<Rooms>, request: Request, next: Next) -> Response {
    let Ok(_place) = rooms.of(&request).try_acquire() else {
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
    if !request.method().is_safe() && is_of_elsewhere(request.headers()) {
        return error(StatusCode::FORBIDDEN, "a page of elsewhere changes nothing here");
    }
    next.run(request).await
}

/// Whether a page of another origin sent the request. Behind a proxy that tells the service another
/// host, the browser says where the page is from, or else the proxy says its own name: pages can
/// set neither.
fn is_of_elsewhere(headers: &HeaderMap) -> bool {
    if let Some(site) = text(headers, HeaderName::from_static("sec-fetch-site")) {
        return !["same-origin", "none"].contains(&site);
    }
    let Some(origin) = text(headers, header::ORIGIN) else { return false };
    let origin = origin.split_once("://").map_or(origin, |(_, origin)| origin);
    let names = [header::HOST, HeaderName::from_static("x-forwarded-host")];
    let mut names = names.into_iter().filter_map(|name| text(headers, name));
    !names.any(|name| name.eq_ignore_ascii_case(origin))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_of_elsewhere_is_told_from_the_own_one_behind_a_proxy() {
        let is_of_elsewhere = |headers: &[(&'static str, &'static str)]| {
            let headers = headers.iter().map(|(name, value)| {
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            });
            is_of_elsewhere(&headers.collect())
        };
        let proxy = ("host", "127.0.0.1:8080");
        let (own, foreign) = (("origin", "https://counter.example"), ("origin", "https://evil"));
        assert!(!is_of_elsewhere(&[proxy]), "a program");
        assert!(!is_of_elsewhere(&[("host", "counter.example"), own]));
        assert!(is_of_elsewhere(&[("host", "counter.example"), foreign]));
        assert!(is_of_elsewhere(&[proxy, own]), "nothing says that this is its name");
        assert!(!is_of_elsewhere(&[proxy, own, ("x-forwarded-host", "counter.example")]));
        assert!(!is_of_elsewhere(&[proxy, own, ("sec-fetch-site", "same-origin")]));
        for site in ["cross-site", "same-site"] {
            assert!(is_of_elsewhere(&[proxy, foreign, ("sec-fetch-site", site)]));
        }
    }
}
