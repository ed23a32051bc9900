//! Checks of health. A camera that fails does not make the service unavailable.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::run::board::Board;

/// A check, which is right or names what is not.
fn health(wrong: Option<String>) -> Response {
    match wrong {
        None => Json(json!({ "status": "ok" })).into_response(),
        Some(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({ "status": "unavailable", "reason": reason })),
        )
            .into_response(),
    }
}

fn opening(board: &Board) -> Option<String> {
    board.engine().is_none().then(|| board.progress())
}

/// Whether the service is to be restarted.
pub async fn live(State(board): State<Arc<Board>>) -> Response {
    health(board.failure())
}

/// Whether the engine is open.
pub async fn startup(State(board): State<Arc<Board>>) -> Response {
    health(opening(&board))
}

/// Whether vehicles are counted and recorded.
pub async fn ready(State(board): State<Arc<Board>>) -> Response {
    health(opening(&board).or_else(|| board.failure()).or_else(|| board.unkept()))
}
