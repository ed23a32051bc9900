//! A connection to a Kafka cluster: an idempotent producer, and records on their way.

use std::path::Path;
use std::time::{Duration, Instant};

use krafka::auth::{AuthConfig, TlsConfig};
use krafka::error::{ErrorCode, KrafkaError};
use krafka::network::{BrokerConnection, ConnectionConfig};
use krafka::producer::{Acks, DeliveryHandle, Producer, ProducerRecord};
use tokio::runtime::{self, Runtime};
use tokio::time::timeout;

use super::address::KafkaAddress;
use crate::publish::sink::transit::Transit;
use crate::publish::sink::{SinkError, tls_error};

/// A record for the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaRecord {
    /// Records of one key are in one partition, in order.
    pub key: String,
    /// What it says.
    pub value: String,
}

/// Records that are on their way at once.
const WINDOW: usize = 256;

/// Records that come within this time go together.
const LINGER: Duration = Duration::from_millis(5);

/// Bytes of records that go together to a partition. A broker takes 1 MiB where it is not told
/// otherwise.
const BATCH: usize = 512 << 10;

/// What this client calls itself.
const CLIENT: &str = "vehiclecount";

/// How long a broker may take to answer when it is connected to.
const CONNECT: Duration = Duration::from_secs(4);

/// How long the cluster may take to acknowledge a record. Until then the producer itself tries
/// again, and the cluster leaves out what it has already.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a cluster to which nothing is sent is asked whether it is there.
const LOOK: Duration = Duration::from_secs(10);

/// How long the cluster may take to hear that the connection ends.
const FAREWELL: Duration = Duration::from_millis(200);

/// A connection to a cluster, over which records are sent to a topic. Those of a key stay in order.
///
/// Its tasks run while one of its methods does, and at no other time.
pub struct KafkaConnection {
    /// Before the runtime, which it needs to end.
    producer: Option<Producer>,
    runtime: Option<Runtime>,
    topic: String,
    transit: Transit<DeliveryHandle>,
    /// When the cluster has last shown that it is there.
    seen: Instant,
}

impl KafkaConnection {
    /// Connects, and looks for the topic. With TLS, the brokers' certificates are vouched for by
    /// one of those in the file `authorities` (PEM), or by one that the system trusts. With a
    /// login, SASL is SCRAM-SHA-512, else SCRAM-SHA-256, else PLAIN, whatever the cluster has.
    ///
    /// # Errors
    /// The cluster is not there or refuses, or has no such topic. The error is permanent where it
    /// refuses the login.
    pub fn open(address: &KafkaAddress, authorities: Option<&Path>) -> Result<Self, SinkError> {
        let tls = address.is_secure().then(|| match authorities {
            Some(file) => TlsConfig::new().with_ca_cert(file.to_string_lossy()),
            None => TlsConfig::new().with_native_roots(),
        });
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let topic = address.topic().to_owned();
        let opened = runtime.block_on(produce(address, tls.as_ref()));
        let producer = match opened {
            Ok(producer) => producer,
            Err(error) => {
                // A name that is being looked up is not waited for.
                runtime.shutdown_background();
                return Err(words(&error, &topic));
            }
        };
        Ok(Self {
            producer: Some(producer),
            runtime: Some(runtime),
            topic,
            transit: Transit::new(WINDOW, PATIENCE, "the cluster acknowledges no record"),
            seen: Instant::now(),
        })
    }

    /// Sends records for `turn` at most. Returns how many of them, from the first one on, the
    /// cluster has acknowledged with all replicas that are in sync. The next call goes on with the
    /// first that it has not: what is on its way is not sent again. With none, the cluster is
    /// asked now and then whether it is there.
    ///
    /// # Errors
    /// The cluster is gone, or refuses a record.
    pub fn send(&mut self, records: &[KafkaRecord], turn: Duration) -> Result<usize, SinkError> {
        let Self { producer, runtime, topic, transit, seen } = self;
        let (Some(producer), Some(runtime)) = (producer, runtime) else {
            return Err(SinkError::temporary("the connection has ended"));
        };
        if records.is_empty() {
            if seen.elapsed() >= LOOK {
                let topics = [topic.as_str()];
                let look = producer.metadata().refresh_for_topics_forced(Some(&topics));
                let looked = runtime.block_on(async { timeout(CONNECT, look).await });
                let looked = looked.unwrap_or_else(|_| Err(KrafkaError::timeout("look")));
                looked.map_err(|error| words(&error, topic))?;
                *seen = Instant::now();
            }
            return Ok(0);
        }
        let hand = |record: &KafkaRecord| {
            let KafkaRecord { key, value } = record.clone();
            let record = ProducerRecord::new(topic.as_str(), value).with_key(key);
            runtime.block_on(producer.enqueue(record)).map_err(|error| words(&error, topic))
        };
        let refusal = |error: &KrafkaError, _: &KafkaRecord| words(error, topic);
        let delivered = transit.send(runtime, records, turn, hand, refusal)?;
        if delivered > 0 {
            *seen = transit.progress();
        }
        Ok(delivered)
    }
}

impl Drop for KafkaConnection {
    fn drop(&mut self) {
        let (Some(producer), Some(runtime)) = (self.producer.take(), self.runtime.take()) else {
            return;
        };
        // What is on its way after a failure is sent again over another connection.
        if self.transit.is_empty() {
            let _ = runtime.block_on(producer.close_with_timeout(FAREWELL));
        }
        drop(producer);
        runtime.shutdown_background();
    }
}

/// A producer that has reached the cluster and was let in.
async fn produce(address: &KafkaAddress, tls: Option<&TlsConfig>) -> Result<Producer, KrafkaError> {
    let auth = admission(address, tls).await?;
    let builder = Producer::builder()
        .bootstrap_servers(address.brokers())
        .client_id(CLIENT)
        .acks(Acks::All)
        .idempotent(true)
        .linger(LINGER)
        .batch_size(BATCH)
        .connect_timeout(CONNECT)
        .request_timeout(PATIENCE)
        // It gives up when this connection is dropped, and does not change the order before.
        .delivery_timeout(Duration::from_secs(86_400))
        .max_block(CONNECT);
    let builder = match auth {
        Some(auth) => builder.auth(auth),
        None => builder,
    };
    let build = async {
        let producer = builder.build().await?;
        producer.partitions_for(address.topic()).await?;
        Ok(producer)
    };
    timeout(2 * CONNECT, build).await.unwrap_or_else(|_| Err(KrafkaError::timeout("connect")))
}

/// How the cluster lets this client in. A producer would not tell why it does not.
async fn admission(
    address: &KafkaAddress,
    tls: Option<&TlsConfig>,
) -> Result<Option<AuthConfig>, KrafkaError> {
    let with_tls = |auth: AuthConfig| match tls {
        Some(tls) => auth.with_tls(tls.clone()),
        None => auth,
    };
    let Some((user, password)) = address.login() else {
        let auth = tls.map(|tls| AuthConfig::ssl(tls.clone()));
        return enter(address, auth.as_ref()).await.map(|()| auth);
    };
    let mut refusal = None;
    // A user may have a password for one of both.
    for auth in [
        AuthConfig::sasl_scram_sha512(user, password),
        AuthConfig::sasl_scram_sha256(user, password),
    ] {
        // Apache's broker refuses a login that is bound to the connection.
        let auth = with_tls(auth).with_scram_channel_binding(false);
        match enter(address, Some(&auth)).await {
            Ok(()) => return Ok(Some(auth)),
            Err(error) if is_unknown(&error) => {}
            Err(error) if is_refusal(&error) => refusal = refusal.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    // A password that was refused is not shown.
    if let Some(refusal) = refusal {
        return Err(refusal);
    }
    let auth = with_tls(AuthConfig::sasl_plain(user, password)?);
    enter(address, Some(&auth)).await.map(|()| Some(auth))
}

/// Connects to the first broker that is there, and leaves again.
async fn enter(address: &KafkaAddress, auth: Option<&AuthConfig>) -> Result<(), KrafkaError> {
    let config = ConnectionConfig::builder()
        .client_id(CLIENT)
        .connect_timeout(CONNECT)
        .request_timeout(CONNECT);
    let config = match auth {
        Some(auth) => config.auth(auth.clone()),
        None => config,
    };
    let mut config = config.build()?;
    config.init_tls().await?;
    let mut failure = KrafkaError::timeout("connect");
    for broker in address.brokers().split(',') {
        let connect = BrokerConnection::connect(broker, config.clone());
        match timeout(CONNECT, connect).await {
            Ok(Ok(connection)) => {
                connection.close().await;
                return Ok(());
            }
            // Another broker says no other.
            Ok(Err(error)) if is_refusal(&error) || is_unknown(&error) => return Err(error),
            Ok(Err(error)) => failure = error,
            Err(_) => failure = KrafkaError::timeout("connect"),
        }
    }
    Err(failure)
}

/// The cluster does not have that mechanism of SASL.
fn is_unknown(error: &KrafkaError) -> bool {
    matches!(error, KrafkaError::Auth { message } if message.contains("UnsupportedSaslMechanism"))
}

/// The cluster has judged the login.
fn is_refusal(error: &KrafkaError) -> bool {
    matches!(error, KrafkaError::Auth { message } if message.starts_with("SASL authentication"))
}

/// What went wrong, and what to do.
fn words(error: &KrafkaError, topic: &str) -> SinkError {
    let refusal = match error {
        KrafkaError::Auth { .. } if is_unknown(error) => {
            let reason = "the cluster knows neither SCRAM-SHA-512 nor SCRAM-SHA-256 nor PLAIN";
            return SinkError::permanent(reason);
        }
        KrafkaError::Auth { .. } if is_refusal(error) => {
            return SinkError::permanent("the cluster refuses the user name or the password");
        }
        KrafkaError::Auth { message } => match message.strip_prefix("TLS handshake failed: ") {
            Some(failure) => tls_error(failure),
            None => message.clone(),
        },
        KrafkaError::Timeout { .. } => "the cluster does not answer".to_owned(),
        KrafkaError::Network(error) => error.to_string(),
        // What answers speaks something else, such as TLS.
        KrafkaError::Protocol { .. } => {
            format!("what answers does not speak Kafka, or speaks it with TLS (kafkas://): {error}")
        }
        KrafkaError::Broker { code, .. } => match code {
            ErrorCode::UnknownTopicOrPartition => {
                format!("the cluster has no topic {topic}: create it")
            }
            ErrorCode::TopicAuthorizationFailed => {
                format!("the cluster does not allow this user to write to the topic {topic}")
            }
            ErrorCode::ClusterAuthorizationFailed => {
                "the cluster does not allow this user to write idempotently: allow IdempotentWrite"
                    .to_owned()
            }
            ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => {
                format!("a record is too large: raise max.message.bytes of the topic {topic}")
            }
            code => format!("the cluster refuses: {code:?}"),
        },
        error => error.to_string(),
    };
    SinkError::temporary(refusal)
}
