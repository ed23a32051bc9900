//! Who waits for the engine, who goes next, and who is dropped.

use std::collections::VecDeque;
use std::time::Duration;

/// A camera's place in the [`WaitingRoom`]. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CameraId(u64);

/// When the next batch may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// There is a batch to take.
    Now,
    /// What waits is let go at this time, unless the batch is full before.
    At(Duration),
    /// No frame waits.
    Never,
}

/// Frames that wait for the engine, at most a few for each camera.
#[derive(Debug)]
pub struct WaitingRoom<T> {
    batch_size: usize,
    timeout: Duration,
    /// In the order in which they are served: the camera that was served last stands at the back.
    cameras: VecDeque<Line<T>>,
    next_id: u64,
}

#[derive(Debug)]
struct Line<T> {
    id: CameraId,
    frames: VecDeque<(Duration, T)>,
}

impl<T> WaitingRoom<T> {
    /// Batches of at most `batch_size` frames; a batch that is not full is let go `timeout` after
    /// its oldest frame came.
    pub fn new(batch_size: usize, timeout: Duration) -> Self {
        Self { batch_size: batch_size.max(1), timeout, cameras: VecDeque::new(), next_id: 0 }
    }

    /// A new camera, served after all others.
    pub fn join(&mut self) -> CameraId {
        let id = CameraId(self.next_id);
        self.next_id += 1;
        self.cameras.push_back(Line { id, frames: VecDeque::new() });
        id
    }

    /// The camera goes; its waiting frames are returned.
    pub fn leave(&mut self, id: CameraId) -> Vec<T> {
        let index = self.cameras.iter().position(|line| line.id == id);
        let line = index.and_then(|index| self.cameras.remove(index));
        line.map(|line| line.frames.into_iter().map(|(_, frame)| frame).collect())
            .unwrap_or_default()
    }

    /// The camera's waiting frames are returned; the camera stays.
    pub fn clear(&mut self, id: CameraId) -> Vec<T> {
        let line = self.cameras.iter_mut().find(|line| line.id == id);
        line.map(|line| line.frames.drain(..).map(|(_, frame)| frame).collect()).unwrap_or_default()
    }

    /// `frame` waits from `now` on. Where more than `keep` frames of the camera would wait, the
    /// oldest is returned: the newest wins. A camera that is gone gets its frame back.
    pub fn push(&mut self, id: CameraId, frame: T, keep: usize, now: Duration) -> Option<T> {
        let Some(line) = self.cameras.iter_mut().find(|line| line.id == id) else {
            return Some(frame);
        };
        line.frames.push_back((now, frame));
        if line.frames.len() > keep.max(1) {
            line.frames.pop_front().map(|(_, frame)| frame)
        } else {
            None
        }
    }

    /// When the next batch may go.
    pub fn due(&self, now: Duration) -> Due {
        let frames = self.cameras.iter().flat_map(|line| &line.frames);
        if frames.clone().count() >= self.batch_size {
            return Due::Now;
        }
        match frames.map(|&(since, _)| since + self.timeout).min() {
            Some(at) if at > now => Due::At(at),
            Some(_) => Due::Now,
            None => Due::Never,
        }
    }

    /// Moves the next batch into `batch`: one frame of each camera in turn, then a second one of
    /// each, until the batch is full.
    pub fn take(&mut self, batch: &mut Vec<T>) {
        while batch.len() < self.batch_size {
            let Some(index) = self.cameras.iter().position(|line| !line.frames.is_empty()) else {
                return;
            };
            let mut line = self.cameras.remove(index).expect("the index was found in this queue");
            let (_, frame) = line.frames.pop_front().expect("the line was found not empty");
            batch.push(frame);
            self.cameras.push_back(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn take(room: &mut WaitingRoom<u32>) -> Vec<u32> {
        let mut batch = Vec::new();
        room.take(&mut batch);
        batch
    }

    #[test]
    fn full_batch_goes_at_once_and_a_part_of_one_at_its_timeout() {
        let mut room = WaitingRoom::new(2, 10 * MS);
        let (a, b) = (room.join(), room.join());
        assert_eq!(room.due(Duration::ZERO), Due::Never);
        room.push(a, 1, 1, 5 * MS);
        assert_eq!(room.due(6 * MS), Due::At(15 * MS));
        assert_eq!(room.due(15 * MS), Due::Now);
        room.push(b, 2, 1, 7 * MS);
        assert_eq!(room.due(7 * MS), Due::Now);
        assert_eq!(take(&mut room), [1, 2]);
        assert_eq!(room.due(20 * MS), Due::Never);
    }

    #[test]
    fn silent_camera_does_not_hold_the_batch() {
        let mut room = WaitingRoom::new(8, Duration::ZERO);
        let (_silent, talking) = (room.join(), room.join());
        room.push(talking, 1, 1, Duration::ZERO);
        assert_eq!(room.due(Duration::ZERO), Due::Now);
        assert_eq!(take(&mut room), [1]);
    }

    #[test]
    fn busy_camera_does_not_starve_the_others() {
        let mut room = WaitingRoom::new(2, Duration::ZERO);
        let (busy, b, c) = (room.join(), room.join(), room.join());
        for frame in 10..15 {
            room.push(busy, frame, 8, Duration::ZERO);
        }
        room.push(b, 20, 8, Duration::ZERO);
        room.push(c, 30, 8, Duration::ZERO);
        assert_eq!(take(&mut room), [10, 20]);
        assert_eq!(take(&mut room), [30, 11]);
        assert_eq!(take(&mut room), [12, 13]);
        assert_eq!(take(&mut room), [14]);
    }

    #[test]
    fn newest_frame_wins() {
        let mut room = WaitingRoom::new(4, Duration::ZERO);
        let camera = room.join();
        assert_eq!(room.push(camera, 1, 1, Duration::ZERO), None);
        assert_eq!(room.push(camera, 2, 1, 1 * MS), Some(1));
        assert_eq!(take(&mut room), [2]);
    }

    #[test]
    fn camera_that_left_neither_waits_nor_comes_back() {
        let mut room = WaitingRoom::new(4, Duration::ZERO);
        let (a, b) = (room.join(), room.join());
        room.push(a, 1, 1, Duration::ZERO);
        assert_eq!(room.leave(a), [1]);
        assert_eq!(room.push(a, 2, 1, Duration::ZERO), Some(2));
        assert_ne!(room.join(), a);
        room.push(b, 3, 1, Duration::ZERO);
        assert_eq!(room.clear(b), [3]);
        assert_eq!(room.due(Duration::ZERO), Due::Never);
    }
}
