//! The files of the page, and the description of the interface. They are parts of the program.

use axum::Router;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::App;

/// The interface in the words of OpenAPI.
pub const OPENAPI: &str = include_str!("openapi.json");

const FILES: [(&str, &str, &str); 9] = [
    ("/", "text/html; charset=utf-8", include_str!("page/index.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
    ("/page.js", JAVASCRIPT, include_str!("page/page.js")),
    ("/api.js", JAVASCRIPT, include_str!("page/api.js")),
    ("/wall.js", JAVASCRIPT, include_str!("page/wall.js")),
    ("/camera.js", JAVASCRIPT, include_str!("page/camera.js")),
    ("/chart.js", JAVASCRIPT, include_str!("page/chart.js")),
    ("/regions.js", JAVASCRIPT, include_str!("page/regions.js")),
];

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// The routes of the files.
pub fn routes() -> Router<App> {
    FILES.into_iter().fold(Router::new(), |router, (path, kind, text)| {
        router.route(path, get(move || async move { ([(header::CONTENT_TYPE, kind)], text) }))
    })
}

/// The description of the interface.
pub async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}
