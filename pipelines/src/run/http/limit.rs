//! How often a client may ask: a bucket of tokens for each address.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use parking_lot::Mutex;

use super::error;

/// Requests a second of health and metrics from one client: what watches the service is not held
/// back by a page that asks much, and no flood of them takes the service's time.
const WATCHING: NonZeroU32 = NonZeroU32::new(100).unwrap();

/// Addresses that are kept before those that have not asked for long are forgotten.
const KEPT: usize = 1024;

/// How often they are looked for.
const SWEEP: Duration = Duration::from_secs(1);

/// The address of a client, in the extensions of its requests.
#[derive(Clone, Copy, Debug)]
pub struct Client(pub IpAddr);

type Buckets = RateLimiter<IpAddr, HashMapStateStore<IpAddr>, DefaultClock>;

/// The buckets of all clients.
pub struct Limits {
    clock: DefaultClock,
    requests: Buckets,
    watching: Buckets,
    swept: Mutex<Instant>,
}

/// Whether it is a check of health that is asked for.
pub fn is_health(path: &str) -> bool {
    path.starts_with("/api/v1/health/")
}

/// Whether what watches the service asks for it.
pub fn is_watching(path: &str) -> bool {
    path == "/metrics" || is_health(path)
}

impl Limits {
    /// For so many requests a second from one client, and as many at once.
    pub fn new(rate: NonZeroU32) -> Self {
        let buckets = |rate| Buckets::hashmap(Quota::per_second(rate));
        Self {
            clock: DefaultClock::default(),
            requests: buckets(rate),
            watching: buckets(WATCHING),
            swept: Mutex::new(Instant::now()),
        }
    }

    /// Takes a token. Gives how long to wait where there is none.
    fn take(&self, client: IpAddr, path: &str) -> Result<(), Duration> {
        let is_watching = is_watching(path);
        let buckets = if is_watching { &self.watching } else { &self.requests };
        self.sweep(buckets);
        let taken = buckets.check_key(&network(client)).map(drop);
        taken.map_err(|not_until| not_until.wait_time_from(self.clock.now()))
    }

    /// Forgets clients whose buckets are full again, now and then.
    fn sweep(&self, buckets: &Buckets) {
        if buckets.len() < KEPT {
            return;
        }
        let mut swept = self.swept.lock();
        if swept.elapsed() > SWEEP {
            buckets.retain_recent();
            *swept = Instant::now();
        }
    }
}

/// What one client has: an address of IPv4, or a network of IPv6, which has more addresses than can
/// be counted.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
        }
        address => address,
    }
}

/// Sends clients away who ask too often.
pub async fn limit(State(limits): State<Arc<Limits>>, request: Request, next: Next) -> Response {
    let client = request.extensions().get::<Client>();
    // Every request that comes over a connection has its client's address.
    let client = client.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |client| client.0);
    let Err(wait) = limits.take(client, request.uri().path()) else {
        return next.run(request).await;
    };
    let mut refused = error(StatusCode::TOO_MANY_REQUESTS, "too many requests; try again later");
    // Rounded up: who waits that long is let in.
    let seconds = HeaderValue::from(wait.as_secs() + 1);
    refused.headers_mut().insert(header::RETRY_AFTER, seconds);
    refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_a_bucket_of_its_own_and_health_has_another() {
        let limits = Limits::new(NonZeroU32::MIN);
        let take = |client: &str, path: &str| limits.take(client.parse().unwrap(), path);
        let (page, health) = ("/api/v1/cameras", "/api/v1/health/live");
        assert_eq!(take("10.0.0.1", page), Ok(()));
        let mut waits = (0..100).filter_map(|_| take("10.0.0.1", page).err());
        assert!(waits.any(|wait| wait <= Duration::from_secs(1)));
        for client in ["10.0.0.2", "2001:db8::1", "2001:db8:0:1::1"] {
            assert_eq!(take(client, page), Ok(()), "{client}");
        }
        assert_eq!(take("10.0.0.1", health), Ok(()));
        assert_eq!(take("10.0.0.1", "/metrics"), Ok(()));
        for (address, of) in [
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("2001:db8::1:2:3:4", "2001:db8::"),
            ("2001:db8::ffff:0:0:1", "2001:db8::"),
        ] {
            assert_eq!(network(address.parse().unwrap()), of.parse::<IpAddr>().unwrap());
        }
    }

    #[test]
    fn clients_that_are_gone_are_forgotten() {
        let limits = Limits::new(NonZeroU32::new(1_000_000).unwrap());
        for number in 0..100_000_u32 {
            *limits.swept.lock() = Instant::now().checked_sub(2 * SWEEP).unwrap();
            assert_eq!(limits.take(IpAddr::V4(number.into()), "/"), Ok(()));
        }
        assert!(limits.requests.len() <= KEPT, "{}", limits.requests.len());
    }
}
