//! A connection to a broker: a thread that keeps it alive, and messages on their way.

use std::future::Future;
use std::pin::Pin;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v5::{ConnectReturnCode, LastWill, Packet, PubAckReason};
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, Outgoing, PublishNoticeError,
    PublishOptions, PublishResult, TlsConfiguration, Transport,
};
use tokio::runtime::{self, Runtime};
use tokio::time::timeout;

use super::address::MqttAddress;
use crate::publish::sink::transit::Transit;
use crate::publish::sink::{SinkError, tls};

/// A message to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MqttMessage {
    /// Its topic.
    pub topic: String,
    /// What it says.
    pub payload: String,
    /// The broker keeps it for those who subscribe later.
    pub retain: bool,
}

/// Messages that are on their way at once.
const WINDOW: usize = 64;

/// How long the broker may take to answer when it is connected to.
const CONNECT: Duration = Duration::from_secs(4);

/// How long the broker may take to acknowledge a message.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is wrong when it takes longer.
const SILENCE: &str = "the broker acknowledges no message";

/// Without a message for this long the broker is asked whether it is there; after one and a half
/// times as long it tells others that this client is not.
const KEEP_ALIVE: u16 = 20;

/// How long the broker may take to hear that the connection ends.
const FAREWELL: Duration = Duration::from_millis(200);

/// What becomes of a message.
type Fate = Pin<Box<dyn Future<Output = Result<PublishResult, PublishNoticeError>> + Send>>;

/// A connection to a broker, over which messages are sent in order.
///
/// Under `TOPIC/status` the broker keeps `online` as long as it lasts, and `offline` afterwards, by
/// its last will if need be.
pub struct MqttConnection {
    link: Link,
    ended: Receiver<()>,
    transit: Transit<Fate>,
    /// Waits for acknowledgements.
    runtime: Runtime,
    status: String,
}

/// The client, as long as it is connected.
struct Link {
    client: AsyncClient,
    /// Why the connection has ended.
    failure: Arc<Mutex<Option<SinkError>>>,
}

impl MqttConnection {
    /// Connects. With TLS, the broker's certificate is vouched for by one of `authorities` (PEM),
    /// or by those that the system trusts.
    ///
    /// # Errors
    /// The broker is not there, or refuses. The error is permanent where it refuses the login.
    pub fn open(address: &MqttAddress, authorities: Option<&[u8]>) -> Result<Self, SinkError> {
        let status = format!("{}/status", address.topic());
        let options = options(address, authorities, &status)?;
        let (client, events) = AsyncClient::builder(options).capacity(2 * WINDOW).build();
        let failure = Arc::new(Mutex::new(None));
        let (connected, opened) = mpsc::sync_channel(1);
        let (end, ended) = mpsc::sync_channel(1);
        let own = failure.clone();
        let work = move || {
            drive(events, &connected, &own);
            // Nothing waits for it where the time was over.
            let _ = end.send(());
        };
        thread::Builder::new().name("vehicle-mqtt".to_owned()).spawn(work)?;
        if opened.recv_timeout(CONNECT + FAREWELL).is_err() {
            let silent = || SinkError::temporary("the broker does not answer");
            return Err(failure.lock().take().unwrap_or_else(silent));
        }
        let mut connection = Self {
            link: Link { client, failure },
            ended,
            transit: Transit::new(WINDOW, PATIENCE, SILENCE),
            runtime: runtime::Builder::new_current_thread().enable_time().build()?,
            status,
        };
        connection.tell("online", CONNECT)?;
        Ok(connection)
    }

    /// Sends messages for `turn` at most. Returns how many of them, from the first one on, the
    /// broker has acknowledged. The next call goes on with the first that it has not: what is on
    /// its way is not sent again.
    ///
    /// # Errors
    /// The connection has ended, or the broker refuses a message.
    pub fn send(&mut self, messages: &[MqttMessage], turn: Duration) -> Result<usize, SinkError> {
        let Self { link, transit, runtime, .. } = self;
        if messages.is_empty()
            && let Some(reason) = link.failure.lock().clone()
        {
            return Err(reason);
        }
        let hand = |message: &MqttMessage| link.publish(message);
        let refusal =
            |error: &PublishNoticeError, message: &MqttMessage| link.reason(error, &message.topic);
        transit.send(runtime, messages, turn, hand, refusal)
    }

    /// Tells others whether this client is there.
    fn tell(&mut self, status: &str, patience: Duration) -> Result<(), SinkError> {
        let topic = self.status.clone();
        let message = MqttMessage { topic, payload: status.to_owned(), retain: true };
        let fate = self.link.publish(&message)?;
        match self.runtime.block_on(async { timeout(patience, fate).await }) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.link.reason(&error, &message.topic)),
            Err(_) => Err(SinkError::temporary(SILENCE)),
        }
    }
}

impl Link {
    fn publish(&self, message: &MqttMessage) -> Result<Fate, SinkError> {
        let options = PublishOptions::new(QoS::AtLeastOnce).retain(message.retain);
        let MqttMessage { topic, payload, .. } = message;
        match self.client.try_publish_tracked(topic.as_str(), payload.clone(), options) {
            Ok(notice) => Ok(Box::pin(notice.wait_async())),
            Err(_) => Err(self.lost()),
        }
    }

    /// Why the connection is gone.
    fn lost(&self) -> SinkError {
        // The thread says why before it drops what is on its way.
        let reason = self.failure.lock().clone();
        reason.unwrap_or_else(|| SinkError::temporary("the connection has ended"))
    }

    fn reason(&self, error: &PublishNoticeError, topic: &str) -> SinkError {
        match error {
            PublishNoticeError::V5PubAck(PubAckReason::NotAuthorized) => SinkError::temporary(
                format!("the broker does not allow this user to publish under {topic}"),
            ),
            PublishNoticeError::V5PubAck(reason) => {
                SinkError::temporary(format!("the broker refuses a message: {reason:?}"))
            }
            PublishNoticeError::RetainNotSupported => {
                SinkError::temporary("the broker keeps no retained messages")
            }
            _ => self.lost(),
        }
    }
}

impl Drop for MqttConnection {
    fn drop(&mut self) {
        if self.link.failure.lock().is_some() {
            return;
        }
        // Without it the broker keeps the last will.
        if self.tell("offline", FAREWELL).is_ok() && self.link.client.try_disconnect_now().is_ok() {
            let _ = self.ended.recv_timeout(FAREWELL);
        }
    }
}

fn options(
    address: &MqttAddress,
    authorities: Option<&[u8]>,
    status: &str,
) -> Result<MqttOptions, SinkError> {
    let (host, port) = address.broker();
    let mut options = MqttOptions::new(client_id(), (host, port));
    // What was not acknowledged is sent again by the caller: the broker need not remember.
    options
        .set_clean_start(true)
        .set_keep_alive(KEEP_ALIVE)
        .set_connect_timeout(CONNECT)
        .set_last_will(LastWill::new(status, "offline", QoS::AtLeastOnce, true, None));
    if let Some((user, password)) = address.login() {
        options.set_credentials(user.to_owned(), password.to_owned());
    }
    if address.is_secure() {
        let client = tls::client(authorities).map_err(SinkError::permanent)?;
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(client)));
    }
    Ok(options)
}

/// A name that no other client of the broker has.
fn client_id() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("vehiclecount-{:x}-{:x}-{number:x}", process::id(), time.as_nanos())
}

/// Keeps the connection alive until it ends, and says why.
fn drive(mut events: EventLoop, connected: &SyncSender<()>, failure: &Mutex<Option<SinkError>>) {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            *failure.lock() = Some(SinkError::temporary(error.to_string()));
            return;
        }
    };
    runtime.block_on(async {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    // Nothing waits for it where the time was over.
                    let _ = connected.try_send(());
                }
                Ok(Event::Outgoing(Outgoing::Disconnect)) => break,
                Ok(Event::Incoming(Packet::Disconnect(end))) => {
                    let reason =
                        format!("the broker has ended the connection: {:?}", end.reason_code);
                    *failure.lock() = Some(SinkError::temporary(reason));
                    break;
                }
                Ok(_) => {}
                Err(error) => {
                    *failure.lock() = Some(words(&error));
                    break;
                }
            }
        }
    });
    // A name that is being looked up is not waited for.
    runtime.shutdown_background();
}

/// Why a connection is not made, or has ended.
fn words(error: &ConnectionError) -> SinkError {
    match error {
        ConnectionError::ConnectionRefused(
            ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized,
        ) => SinkError::permanent("the broker refuses the user name or the password"),
        ConnectionError::ConnectionRefused(reason) => {
            SinkError::temporary(format!("the broker refuses the connection: {reason:?}"))
        }
        ConnectionError::Timeout(_) => SinkError::temporary("the broker does not answer"),
        ConnectionError::Tls(error) => SinkError::temporary(tls::words(&error.to_string())),
        ConnectionError::Io(error) => SinkError::temporary(error.to_string()),
        error => SinkError::temporary(error.to_string()),
    }
}
