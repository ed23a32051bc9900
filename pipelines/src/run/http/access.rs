//! Who may read and change: those who have the token, where one is set.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::error;
use crate::config::Token;

/// The cookie of a browser that has logged in.
const COOKIE: &str = "vehiclecount";

/// How long a wrong token waits for its answer.
const DELAY: Duration = Duration::from_secs(1);

/// The token, and what a browser gets for it: until the service ends.
pub struct Access {
    token: Option<Token>,
    session: String,
    /// What cookies say where they are not to be sent without TLS.
    secure: &'static str,
}

impl Access {
    /// Without a token everything is open. `tls`: the page is reached by TLS alone.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn new(token: Option<Token>, tls: bool) -> Result<Self> {
        let mut random = [0; 32];
        getrandom::fill(&mut random)?;
        let session = random.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        Ok(Self { token, session, secure: if tls { "; Secure" } else { "" } })
    }

    /// Whether the request has the token or the cookie.
    pub fn allows(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let texts = |name| headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        let bearer = texts(header::AUTHORIZATION).any(|value| {
            value.split_once(' ').is_some_and(|(scheme, given)| {
                scheme.eq_ignore_ascii_case("bearer") && token.is(given.trim())
            })
        });
        bearer
            || texts(header::COOKIE).flat_map(|cookies| cookies.split(';')).any(|cookie| {
                let session =
                    cookie.trim().strip_prefix(COOKIE).and_then(|rest| rest.strip_prefix('='));
                session.is_some_and(|session| session == self.session)
            })
    }
}

/// Lets through what has the token.
pub async fn check(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    if access.allows(request.headers()) {
        return next.run(request).await;
    }
    if request.headers().contains_key(header::AUTHORIZATION) {
        tokio::time::sleep(DELAY).await;
    }
    let mut refused = error(
        StatusCode::UNAUTHORIZED,
        "the token is needed: Authorization: Bearer TOKEN, or log in on the page",
    );
    refused.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    refused
}

/// The token as the page sends it.
#[derive(Deserialize)]
pub struct Login {
    token: String,
}

/// Gives a browser its cookie.
pub async fn login(
    State(access): State<Arc<Access>>,
    body: Result<Json<Login>, JsonRejection>,
) -> Response {
    let Ok(Json(login)) = body else {
        return error(StatusCode::BAD_REQUEST, "the body is {\"token\": \"...\"} as JSON");
    };
    if !access.token.as_ref().is_none_or(|token| token.is(&login.token)) {
        tokio::time::sleep(DELAY).await;
        return error(StatusCode::UNAUTHORIZED, "that is not the token");
    }
    let Access { session, secure, .. } = &*access;
    cookie(&format!("{COOKIE}={session}; Path=/; HttpOnly; SameSite=Strict{secure}"))
}

/// Takes the cookie back.
pub async fn logout() -> Response {
    cookie(&format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"))
}

fn cookie(cookie: &str) -> Response {
    ([(header::SET_COOKIE, cookie.to_owned())], Json(json!({ "status": "ok" }))).into_response()
}
