//! A web service on axum that pushes through imcore, whose calls block.
//!
//! ```sh
//! imserver --redis redis://127.0.0.1:6379
//! cargo run --manifest-path examples/axum/Cargo.toml -- redis://127.0.0.1:6379 127.0.0.1:6001
//! curl -X POST http://127.0.0.1:8082/address/42
//! curl -X POST http://127.0.0.1:8082/orders -H 'Content-Type: application/json' -d '{"users": [42], "text": "shipped"}'
//! curl http://127.0.0.1:8082/seen
//! ```
//!
//! What it leaves out: a login (the user stands in the path), rights, and limits.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, post},
};
use imcore::{ClientId, ErrorKind, ImClient, Message, PresenceWatch};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{Mutex, mpsc},
    task::spawn_blocking,
};

/// Presence events that wait for the service; beyond it the event thread waits, which imcore counts as a gap.
const EVENTS: usize = 1024;

/// What the handlers share. `ImClient` is a handle: clones cost nothing and share connections.
#[derive(Clone)]
struct App {
    im: ImClient,
    seen: Arc<Mutex<Vec<String>>>,
}

/// A failure as the caller sees it.
type Failure = (StatusCode, String);

/// Runs a call to imcore where blocking is allowed. In a handler itself it would hold one of the runtime's few
/// threads for a round trip, and for seconds while Redis hangs.
async fn blocking<T: Send + 'static>(
    app: &App,
    call: impl FnOnce(&ImClient) -> imcore::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let im = app.im.clone();
    match spawn_blocking(move || call(&im)).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            let status = match error.kind() {
                ErrorKind::Argument | ErrorKind::Encode => StatusCode::BAD_REQUEST,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            };
            Err((status, error.to_string()))
        }
        Err(error) => Err((StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}

/// Where the browser of a logged-in user may connect, once.
async fn address(State(app): State<App>, Path(user): Path<i64>) -> Result<Json<Value>, Failure> {
    let url = blocking(&app, move |im| im.connect_url(user, Some("axum"))).await?;
    Ok(Json(json!({ "url": url })))
}

#[derive(Deserialize)]
struct Order {
    users: Vec<i64>,
    text: String,
}

/// A message to each, in one round trip. A `Batch` borrows the client, so it is built inside the closure.
async fn order(State(app): State<App>, Json(order): Json<Order>) -> Result<StatusCode, Failure> {
    blocking(&app, move |im| {
        let mut batch = im.batch();
        for user in order.users {
            batch.add(Message::to([user]), &json!({ "user": user, "text": order.text }))?;
        }
        batch.send()
    })
    .await?;
    Ok(StatusCode::ACCEPTED)
}

/// Who came and went.
async fn seen(State(app): State<App>) -> Json<Vec<String>> {
    Json(app.seen.lock().await.clone())
}

/// Presence events, as an async stream: the callbacks run on a thread of imcore and may block.
fn events(im: &ImClient) -> imcore::Result<(PresenceWatch, mpsc::Receiver<String>)> {
    let (online, events) = mpsc::channel(EVENTS);
    let offline = online.clone();
    let tell = |what: &str, client: ClientId, to: &mpsc::Sender<String>| {
        // Fails only at the end, when nobody listens any more.
        let _ = to.blocking_send(format!("{client} {what}"));
    };
    let bus = im.on_presence(
        move |client, _| tell("online", client, &online),
        move |client, _| tell("offline", client, &offline),
    )?;
    Ok((bus, events))
}

fn router(app: App) -> Router {
    Router::new()
        .route("/address/{user}", post(address))
        .route("/orders", post(order))
        .route("/seen", get(seen))
        .with_state(app)
}

/// Serves until `end`; then stops the events, which waits for their thread.
async fn serve(
    im: ImClient,
    listener: TcpListener,
    end: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Box<dyn std::error::Error>> {
    let app = App { im: im.clone(), seen: Arc::default() };
    let (bus, mut events) = spawn_blocking(move || events(&im)).await??;
    let seen = Arc::clone(&app.seen);
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            seen.lock().await.push(event);
        }
    });
    axum::serve(listener, router(app)).with_graceful_shutdown(end).await?;
    spawn_blocking(move || bus.stop()).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let redis = arguments.next().unwrap_or_else(|| "redis://127.0.0.1:6379".into());
    let servers = arguments.next().unwrap_or_else(|| "127.0.0.1:6001".into());
    let im = spawn_blocking(move || {
        ImClient::builder().redis(&redis).servers(servers.split(',').map(str::to_owned)).build()
    });
    let im = im.await??;
    let listener = TcpListener::bind("127.0.0.1:8082").await?;
    println!("http://{}", listener.local_addr()?);
    let end = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    serve(im, listener, end).await
}

#[cfg(test)]
mod tests;
