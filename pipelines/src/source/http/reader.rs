//! What comes over HTTP, read piece by piece into a pipeline: pictures in one answer, one picture
//! by one, the segments of a playlist, or a stream of bytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gst::prelude::*;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};

use super::cipher::{BLOCK, Cipher};
use super::client::{Answer, Client, broken};
use super::jpeg::Splitter;
use super::playlist::{self, Listing, Piece, Stream};
use crate::source::{Address, Reason};

/// Bytes before a pipeline that takes its time.
pub const WAITING: u64 = 4 << 20;

/// Bytes of a playlist.
const LONGEST_LIST: usize = 4 << 20;

/// Playlists that name one another.
const LISTS: usize = 4;

/// Segments in a row that a server lists and does not have.
const MISSING: u32 = 3;

/// How often a pipeline is asked whether it takes more.
const TURN: Duration = Duration::from_millis(20);

/// What is made of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// JPEG pictures, at the moment that they come.
    Pictures,
    /// A stream with times of its own.
    Stream,
}

/// What a connection has told of itself so far.
#[derive(Debug, Default)]
pub struct Progress {
    /// What comes, once that is known.
    pub kind: Option<Kind>,
    /// Why nothing more comes.
    pub failure: Option<Reason>,
    /// What has come before that still goes through the pipeline, which then tells its end.
    pub is_ending: bool,
    /// Something has gone into the pipeline.
    pub has_sent: bool,
    /// A playlist of this connection was live.
    pub was_live: bool,
    /// The segment with which another pipeline is to go on.
    pub next: Option<u64>,
}

/// What reads, and where it goes.
pub struct Reader {
    /// The server.
    pub client: Client,
    /// Where to begin.
    pub address: Address,
    /// Where the bytes go.
    pub end: glib::WeakRef<gst_app::AppSrc>,
    /// Tells that, once it is known what comes.
    pub ready: Option<oneshot::Receiver<glib::WeakRef<gst_app::AppSrc>>>,
    /// Pictures that find no room.
    pub dropped: Option<Arc<dyn Fn() + Send + Sync>>,
    /// Time between two pictures that are asked for one by one.
    pub period: Duration,
    /// What is known of the connection.
    pub progress: Arc<Mutex<Progress>>,
    /// The key of encrypted segments that was used last, and where it is.
    pub key: Option<(Address, [u8; BLOCK])>,
    /// The segment to begin with.
    pub next: Option<u64>,
    /// A playlist was live before: one that is over is no recording.
    pub was_live: bool,
}

/// The pipeline takes nothing more.
struct Gone;

/// Why reading ends.
enum Ended {
    Gone,
    Failed(Reason),
}

impl From<Gone> for Ended {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<Reason> for Ended {
    fn from(reason: Reason) -> Self {
        Self::Failed(reason)
    }
}

impl Reader {
    /// Reads until the stream ends, fails, or nothing takes it any more.
    pub async fn run(mut self) {
        let failure = match self.read().await {
            Ok(()) => None,
            Err(Ended::Gone) => return,
            Err(Ended::Failed(reason)) => Some(reason),
        };
        let end = self.end.upgrade();
        if let Some(reason) = failure {
            let mut progress = self.progress.lock();
            progress.failure = Some(reason);
            progress.is_ending = end.is_some() && progress.has_sent;
        }
        if let Some(end) = end {
            // The pipeline may be gone.
            let _ = end.end_of_stream();
        }
    }

    async fn read(&mut self) -> Result<(), Ended> {
        let answer = self.client.get(&self.address, None).await?;
        let Answer { address, kind, mut body, .. } = answer;
        let Some(first) = chunk(&mut body).await? else {
            return Err(Reason::Content("it sends nothing".to_owned()).into());
        };
        let is_jpeg = kind == "image/jpeg" || kind == "image/jpg";
        if kind.ends_with("mpegurl") || playlist::is_playlist(&first) {
            self.tell(Kind::Stream).await?;
            let text = rest(first, body).await?;
            return self.segments(address, &text).await;
        }
        if is_jpeg || first.starts_with(&[0xff, 0xd8]) {
            self.tell(Kind::Pictures).await?;
            return self.still(first, body).await;
        }
        if kind.starts_with("multipart/") {
            self.tell(Kind::Pictures).await?;
            return self.pictures(first, body, &mut Splitter::default()).await.map(drop);
        }
        if kind.starts_with("text/") || kind == "application/json" {
            return Err(Reason::Content(format!("it sends {kind} and no pictures")).into());
        }
        self.tell(Kind::Stream).await?;
        self.bytes(first).await?;
        self.copy(body).await
    }

    /// Tells what comes, and waits until there is a place for it.
    async fn tell(&mut self, kind: Kind) -> Result<(), Gone> {
        self.progress.lock().kind = Some(kind);
        self.end = self.ready.take().ok_or(Gone)?.await.map_err(|_| Gone)?;
        Ok(())
    }

    /// Pictures of one answer. Gives how many there were.
    async fn pictures(
        &self,
        first: Bytes,
        mut body: Incoming,
        splitter: &mut Splitter,
    ) -> Result<u64, Ended> {
        let (mut next, mut count) = (Some(first), 0);
        while let Some(data) = next {
            splitter.push(&data)?;
            while let Some(picture) = splitter.next() {
                self.picture(picture)?;
                count += 1;
            }
            next = chunk(&mut body).await?;
        }
        Ok(count)
    }

    /// Pictures that are asked for one by one.
    async fn still(&mut self, mut first: Bytes, mut body: Incoming) -> Result<(), Ended> {
        loop {
            let next = Instant::now() + self.period;
            let mut splitter = Splitter::default();
            let count = self.pictures(first, body, &mut splitter).await?;
            if count == 0 {
                let what = if splitter.is_inside() { "a JPEG picture in part" } else { "no JPEG" };
                return Err(Reason::Other(format!("it sends {what}")).into());
            }
            sleep_until(next).await;
            loop {
                let answer = self.client.get(&self.address, None).await?;
                body = answer.body;
                if let Some(data) = chunk(&mut body).await? {
                    first = data;
                    break;
                }
                sleep(self.period).await;
            }
        }
    }

    /// One picture. It is dropped where the decoder does not keep up.
    fn picture(&self, picture: Bytes) -> Result<(), Gone> {
        let end = self.end.upgrade().ok_or(Gone)?;
        if end.current_level_bytes() > WAITING {
            if let Some(dropped) = &self.dropped {
                dropped();
            }
            return Ok(());
        }
        let mut buffer = gst::Buffer::from_slice(picture);
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(end.current_running_time());
        }
        self.push(&end, buffer)
    }

    fn push(&self, end: &gst_app::AppSrc, buffer: gst::Buffer) -> Result<(), Gone> {
        self.progress.lock().has_sent = true;
        end.push_buffer(buffer).map(drop).map_err(|_| Gone)
    }

    /// Bytes of a stream, as soon as there is room for them.
    async fn bytes(&self, data: Bytes) -> Result<(), Gone> {
        loop {
            let end = self.end.upgrade().ok_or(Gone)?;
            if end.current_level_bytes() <= WAITING {
                return self.push(&end, gst::Buffer::from_slice(data));
            }
            drop(end);
            sleep(TURN).await;
        }
    }

    async fn copy(&self, mut body: Incoming) -> Result<(), Ended> {
        while let Some(data) = chunk(&mut body).await? {
            self.bytes(data).await?;
        }
        Ok(())
    }

    /// The segments of a stream, one after the other.
    async fn segments(&mut self, base: Address, text: &[u8]) -> Result<(), Ended> {
        let (base, mut stream) = match playlist::read(&base, text)? {
            Listing::Stream(stream) => (base, stream),
            Listing::Elsewhere(address) => self.list(&address).await?,
        };
        if stream.is_over && self.was_live {
            return Err(Reason::Other("the stream is over".to_owned()).into());
        }
        self.progress.lock().was_live |= !stream.is_over;
        let mut next = self.next.filter(|next| stream.has(*next)).unwrap_or(stream.begin());
        let (mut header, mut has_begun, mut missing) = (None, false, 0);
        loop {
            let known = next;
            for segment in stream.segments.iter().filter(|segment| segment.number >= known) {
                if has_begun && (segment.is_new || segment.header != header) {
                    // Its times and its form are others: another pipeline goes on with it.
                    self.progress.lock().next = Some(segment.number);
                    return Ok(());
                }
                let mut sent = Ok(());
                if segment.header != header {
                    header.clone_from(&segment.header);
                    sent = self.piece(header.as_ref()).await;
                }
                if sent.is_ok() {
                    sent = self.piece(Some(&segment.piece)).await;
                }
                match sent {
                    Ok(()) => missing = 0,
                    // It was there, and the server has moved on.
                    Err(Ended::Failed(Reason::Status(404 | 410, _)))
                        if !stream.is_over && missing < MISSING =>
                    {
                        missing += 1;
                    }
                    Err(ended) => return Err(ended),
                }
                has_begun = true;
                next = segment.number.saturating_add(1);
            }
            if stream.is_over {
                return Ok(());
            }
            // RFC 8216, 6.3.4.
            let wait = Duration::from_secs(stream.longest.clamp(1, 60));
            sleep(if next == known { wait / 2 } else { wait }).await;
            stream = self.list(&base).await?.1;
            if !stream.has(next) {
                // The server has begun anew, or has moved on too far.
                self.progress.lock().next = Some(stream.begin());
                return Ok(());
            }
        }
    }

    /// The stream that is listed at `address`, and where it is listed.
    async fn list(&mut self, address: &Address) -> Result<(Address, Stream), Ended> {
        let mut address = address.clone();
        for _ in 0..LISTS {
            let answer = self.client.get(&address, None).await?;
            let text = rest(Bytes::new(), answer.body).await?;
            match playlist::read(&answer.address, &text)? {
                Listing::Stream(stream) => return Ok((answer.address, stream)),
                Listing::Elsewhere(next) => address = next,
            }
        }
        Err(Reason::Content("its HLS playlists list one another".to_owned()).into())
    }

    async fn piece(&mut self, piece: Option<&Piece>) -> Result<(), Ended> {
        let Some(Piece { address, range, lock }) = piece else { return Ok(()) };
        let cipher = match lock {
            Some(lock) => Some(Cipher::new(self.key(&lock.key).await?, lock.vector)),
            None => None,
        };
        let answer = self.client.get(address, *range).await?;
        if range.is_some_and(|(first, _)| first > 0) && !answer.is_part {
            let what = "the server of its HLS stream sends no parts of files";
            return Err(Reason::Content(what.to_owned()).into());
        }
        match cipher {
            Some(cipher) => self.decrypt(cipher, answer.body).await,
            None => self.copy(answer.body).await,
        }
    }

    async fn decrypt(&self, mut cipher: Cipher, mut body: Incoming) -> Result<(), Ended> {
        while let Some(data) = chunk(&mut body).await? {
            let known = cipher.push(&data);
            if !known.is_empty() {
                self.bytes(known).await?;
            }
        }
        let end = cipher.finish()?;
        if !end.is_empty() {
            self.bytes(end).await?;
        }
        Ok(())
    }

    /// The key of segments. It is asked for once for all that follow one another with it.
    async fn key(&mut self, address: &Address) -> Result<[u8; BLOCK], Ended> {
        if let Some((_, key)) = self.key.as_ref().filter(|(known, _)| known == address) {
            return Ok(*key);
        }
        let mut body = self.client.get(address, None).await?.body;
        let mut key = Vec::new();
        while let Some(data) = chunk(&mut body).await? {
            key.extend_from_slice(&data[..data.len().min(BLOCK + 1)]);
            if key.len() > BLOCK {
                break;
            }
        }
        let key = <[u8; BLOCK]>::try_from(key).map_err(|key| {
            let more =
                if key.len() > BLOCK { "more than 16".into() } else { key.len().to_string() };
            Reason::Content(format!("the key of its HLS stream has {more} bytes, not 16"))
        })?;
        self.key = Some((address.clone(), key));
        Ok(key)
    }
}

/// The next bytes of an answer; none at its end.
async fn chunk(body: &mut Incoming) -> Result<Option<Bytes>, Reason> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(&error))?;
        if let Some(data) = frame.into_data().ok().filter(|data| !data.is_empty()) {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// All of a playlist, which begins with `first`.
async fn rest(first: Bytes, mut body: Incoming) -> Result<Vec<u8>, Reason> {
    let mut text = Vec::from(first);
    while let Some(data) = chunk(&mut body).await? {
        text.extend_from_slice(&data);
        if text.len() > LONGEST_LIST {
            return Err(Reason::Content("its HLS playlist is too long".to_owned()));
        }
    }
    Ok(text)
}
