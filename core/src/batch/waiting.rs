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

/// Frames that wait for the engine, at most a few for each camera. A frame has a shape, the number
/// of its input size: a batch is of one shape. Shapes have no turns of their own, cameras have: the
/// camera that waits longest for its turn decides of which shape the next batch is.
///
/// A frame may be of several looks, each an input of its own ([`push_looks`](Self::push_looks)).
/// They go in their order, in the turns of their camera. A frame is dropped with all its looks or
/// not at all: one of which a look has gone is finished, so that under overload frames become
/// whole.
#[derive(Debug)]
pub struct WaitingRoom<T> {
    batch_size: usize,
    timeout: Duration,
    /// In the order in which they are served: the camera that was served last stands at the back.
    cameras: VecDeque<Line<T>>,
    next_id: u64,
    /// Of each shape, what a batch could be made of now; kept for its memory.
    ready: Vec<Ready>,
}

/// Frames of one shape that the next batch could be made of.
#[derive(Clone, Copy, Debug, Default)]
struct Ready {
    count: usize,
    /// When the oldest of them came.
    since: Option<Duration>,
}

#[derive(Debug)]
struct Line<T> {
    id: CameraId,
    frames: VecDeque<Waiting<T>>,
    /// Number of the frame that came last.
    last: u64,
    /// Number of the frame of which a look went last.
    begun: Option<u64>,
}

#[derive(Debug)]
struct Waiting<T> {
    since: Duration,
    shape: usize,
    /// Number of the frame, the same for all its looks.
    number: u64,
    frame: T,
}

impl<T> Line<T> {
    /// The frames that may go before the line's next change of shape: order is kept.
    fn head(&self) -> impl Iterator<Item = &Waiting<T>> {
        let shape = self.shape();
        self.frames.iter().take_while(move |waiting| Some(waiting.shape) == shape)
    }

    fn shape(&self) -> Option<usize> {
        self.frames.front().map(|first| first.shape)
    }

    /// Takes out the oldest frame of which no look has gone, where more than `keep` such frames
    /// wait. The next one has waited since that came: else a camera whose frames come faster than
    /// the timeout would never be due by it.
    fn drop_oldest(&mut self, keep: usize) -> Vec<T> {
        if self.frames.len() <= keep.max(1) {
            return Vec::new();
        }
        let waiting = self.frames.iter().map(|waiting| waiting.number);
        let mut whole: Vec<_> = waiting.filter(|number| Some(*number) != self.begun).collect();
        whole.dedup();
        if whole.len() <= keep.max(1) {
            return Vec::new();
        }
        let (oldest, next) = (whole[0], whole[1]);
        let mut dropped = Vec::new();
        let mut since = None;
        for mut waiting in std::mem::take(&mut self.frames) {
            if waiting.number == oldest {
                since = Some(waiting.since);
                dropped.push(waiting.frame);
                continue;
            }
            if waiting.number == next {
                waiting.since = since.unwrap_or(waiting.since);
            }
            self.frames.push_back(waiting);
        }
        dropped
    }
}

impl<T> WaitingRoom<T> {
    /// Batches of at most `batch_size` frames; a batch that is not full is let go `timeout` after
    /// its oldest frame came.
    pub fn new(batch_size: usize, timeout: Duration) -> Self {
        Self {
            batch_size: batch_size.max(1),
            timeout,
            cameras: VecDeque::new(),
            next_id: 0,
            ready: Vec::new(),
        }
    }

    /// Frames that wait.
    pub fn len(&self) -> usize {
        self.cameras.iter().map(|line| line.frames.len()).sum()
    }

    /// Whether no frame waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A new camera, served after all others.
    pub fn join(&mut self) -> CameraId {
        let id = CameraId(self.next_id);
        self.next_id += 1;
        self.cameras.push_back(Line { id, frames: VecDeque::new(), last: 0, begun: None });
        id
    }

    /// The camera goes; its waiting frames are returned.
    pub fn leave(&mut self, id: CameraId) -> Vec<T> {
        let index = self.cameras.iter().position(|line| line.id == id);
        let line = index.and_then(|index| self.cameras.remove(index));
        line.map(|line| line.frames.into_iter().map(|waiting| waiting.frame).collect())
            .unwrap_or_default()
    }

    /// The camera's waiting frames are returned; the camera stays.
    pub fn clear(&mut self, id: CameraId) -> Vec<T> {
        let line = self.cameras.iter_mut().find(|line| line.id == id);
        line.map(|line| line.frames.drain(..).map(|waiting| waiting.frame).collect())
            .unwrap_or_default()
    }

    /// `frame`, of that shape, waits from `now` on. Where more than `keep` frames of the camera
    /// would wait, the oldest is returned, and the next one has waited since that came: the newest
    /// wins. A camera that is gone gets its frame back.
    pub fn push(
        &mut self,
        id: CameraId,
        shape: usize,
        frame: T,
        keep: usize,
        now: Duration,
    ) -> Option<T> {
        self.push_looks(id, [(shape, frame)], keep, now).pop()
    }

    /// As [`push`](Self::push), of a frame of several looks, each with its shape. What is returned
    /// are all looks of a frame.
    pub fn push_looks(
        &mut self,
        id: CameraId,
        looks: impl IntoIterator<Item = (usize, T)>,
        keep: usize,
        now: Duration,
    ) -> Vec<T> {
        let Some(line) = self.cameras.iter_mut().find(|line| line.id == id) else {
            return looks.into_iter().map(|(_, frame)| frame).collect();
        };
        line.last += 1;
        let number = line.last;
        let looks = looks.into_iter();
        line.frames.extend(looks.map(|(shape, frame)| Waiting {
            since: now,
            shape,
            number,
            frame,
        }));
        line.drop_oldest(keep)
    }

    /// Looks anew what batches could be made of.
    fn look(&mut self) {
        self.ready.fill(Ready::default());
        for waiting in self.cameras.iter().flat_map(Line::head) {
            if waiting.shape >= self.ready.len() {
                self.ready.resize(waiting.shape + 1, Ready::default());
            }
            let ready = &mut self.ready[waiting.shape];
            ready.count += 1;
            ready.since = Some(ready.since.map_or(waiting.since, |since| since.min(waiting.since)));
        }
    }

    /// When the next batch may go.
    pub fn due(&mut self, now: Duration) -> Due {
        self.look();
        if self.ready.iter().any(|ready| ready.count >= self.batch_size) {
            return Due::Now;
        }
        match self.ready.iter().filter_map(|ready| ready.since).min() {
            Some(since) if since + self.timeout > now => Due::At(since + self.timeout),
            Some(_) => Due::Now,
            None => Due::Never,
        }
    }

    /// Moves the batch that is due at `now` into `batch`. Its shape is that of the first camera in
    /// turn whose shape is due: full, or with a frame that has waited long enough. Of that shape it
    /// takes one frame of each camera in turn, then a second one of each, until the batch is full.
    pub fn take(&mut self, batch: &mut Vec<T>, now: Duration) {
        self.look();
        let is_due = |shape: usize| {
            let Ready { count, since } = self.ready[shape];
            count >= self.batch_size || since.is_some_and(|since| since + self.timeout <= now)
        };
        let mut shapes = self.cameras.iter().filter_map(Line::shape);
        let Some(shape) = shapes.find(|&shape| is_due(shape)) else { return };
        while batch.len() < self.batch_size {
            let next = self.cameras.iter().position(|line| line.shape() == Some(shape));
            let Some(index) = next else { return };
            let mut line = self.cameras.remove(index).expect("the index was found in this queue");
            let waiting = line.frames.pop_front().expect("a line with a shape is not empty");
            line.begun = Some(waiting.number);
            batch.push(waiting.frame);
            self.cameras.push_back(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Longer than any timeout here.
    const LATER: Duration = Duration::from_secs(1);

    fn take(room: &mut WaitingRoom<u32>) -> Vec<u32> {
        take_at(room, LATER)
    }

    fn take_at(room: &mut WaitingRoom<u32>, now: Duration) -> Vec<u32> {
        let mut batch = Vec::new();
        room.take(&mut batch, now);
        batch
    }

    #[test]
    fn full_batch_goes_at_once_and_a_part_of_one_at_its_timeout() {
        let mut room = WaitingRoom::new(2, 10 * MS);
        let (a, b) = (room.join(), room.join());
        assert_eq!(room.due(Duration::ZERO), Due::Never);
        room.push(a, 0, 1, 1, 5 * MS);
        assert_eq!(room.due(6 * MS), Due::At(15 * MS));
        assert_eq!(room.due(15 * MS), Due::Now);
        room.push(b, 0, 2, 1, 7 * MS);
        assert_eq!(room.due(7 * MS), Due::Now);
        assert_eq!(take(&mut room), [1, 2]);
        assert_eq!(room.due(20 * MS), Due::Never);
    }

    #[test]
    fn silent_camera_does_not_hold_the_batch() {
        let mut room = WaitingRoom::new(8, Duration::ZERO);
        let (_silent, talking) = (room.join(), room.join());
        room.push(talking, 0, 1, 1, Duration::ZERO);
        assert_eq!(room.due(Duration::ZERO), Due::Now);
        assert_eq!(take(&mut room), [1]);
    }

    #[test]
    fn busy_camera_does_not_starve_the_others() {
        let mut room = WaitingRoom::new(2, Duration::ZERO);
        let (busy, b, c) = (room.join(), room.join(), room.join());
        for frame in 10..15 {
            room.push(busy, 0, frame, 8, Duration::ZERO);
        }
        room.push(b, 0, 20, 8, Duration::ZERO);
        room.push(c, 0, 30, 8, Duration::ZERO);
        assert_eq!(take(&mut room), [10, 20]);
        assert_eq!(take(&mut room), [30, 11]);
        assert_eq!(take(&mut room), [12, 13]);
        assert_eq!(take(&mut room), [14]);
    }

    #[test]
    fn newest_frame_wins() {
        let mut room = WaitingRoom::new(4, Duration::ZERO);
        let camera = room.join();
        assert_eq!(room.push(camera, 0, 1, 1, Duration::ZERO), None);
        assert_eq!(room.push(camera, 0, 2, 1, 1 * MS), Some(1));
        assert_eq!(take(&mut room), [2]);
    }

    #[test]
    fn frame_is_dropped_with_all_its_looks_or_not_at_all() {
        let mut room = WaitingRoom::new(2, Duration::ZERO);
        let (camera, other) = (room.join(), room.join());
        let looks = |frame: u32| [(0, frame), (0, frame + 1), (1, frame + 2)];
        assert!(room.push_looks(camera, looks(10), 1, Duration::ZERO).is_empty());
        assert_eq!(room.push_looks(camera, looks(20), 1, Duration::ZERO), [10, 11, 12]);
        room.push(other, 0, 1, 1, Duration::ZERO);
        // A look of it goes with the other camera's frame. What is left of it is finished, while
        // the newest of the frames that come takes the place of those before.
        assert_eq!(take(&mut room), [20, 1]);
        assert!(room.push_looks(camera, looks(30), 1, Duration::ZERO).is_empty());
        assert_eq!(room.push_looks(camera, looks(40), 1, Duration::ZERO), [30, 31, 32]);
        assert_eq!(room.len(), 5);
        assert_eq!(take(&mut room), [21]);
        assert_eq!(take(&mut room), [22]);
        assert_eq!(take(&mut room), [40, 41]);
        assert_eq!(room.leave(camera), [42]);
        assert_eq!(room.push_looks(camera, looks(50), 1, Duration::ZERO), [50, 51, 52]);
    }

    #[test]
    fn cameras_take_turns_whatever_the_number_of_their_looks() {
        let mut room = WaitingRoom::new(1, Duration::ZERO);
        let (many, one) = (room.join(), room.join());
        room.push_looks(many, [(0, 1), (0, 2), (0, 3)], 1, Duration::ZERO);
        let mut order = Vec::new();
        for frame in 0..3 {
            room.push(one, 0, 10 + frame, 1, Duration::ZERO);
            order.extend(take(&mut room));
            order.extend(take(&mut room));
        }
        assert_eq!(order, [1, 10, 2, 11, 3, 12]);
    }

    #[test]
    fn camera_that_left_neither_waits_nor_comes_back() {
        let mut room = WaitingRoom::new(4, Duration::ZERO);
        let (a, b) = (room.join(), room.join());
        room.push(a, 0, 1, 1, Duration::ZERO);
        assert_eq!(room.leave(a), [1]);
        assert_eq!(room.push(a, 0, 2, 1, Duration::ZERO), Some(2));
        assert_ne!(room.join(), a);
        room.push(b, 0, 3, 1, Duration::ZERO);
        assert_eq!(room.clear(b), [3]);
        assert_eq!(room.due(Duration::ZERO), Due::Never);
    }

    #[test]
    fn batch_is_of_one_shape_and_the_camera_in_turn_says_of_which() {
        let mut room = WaitingRoom::new(4, Duration::ZERO);
        let cameras: Vec<_> = (0..5).map(|_| room.join()).collect();
        // Shapes 0 1 0 1 0.
        for (number, &camera) in cameras.iter().enumerate() {
            room.push(camera, number % 2, number as u32, 1, Duration::ZERO);
        }
        assert_eq!(take(&mut room), [0, 2, 4]);
        assert_eq!(take(&mut room), [1, 3]);
        assert_eq!(room.due(LATER), Due::Never);
    }

    #[test]
    fn no_shape_starves_beside_one_that_fills_every_batch() {
        let mut room = WaitingRoom::new(4, 10 * MS);
        let busy: Vec<_> = (0..64).map(|_| room.join()).collect();
        let lone = room.join();
        let mut served = 0;
        for round in 0..100 {
            let now = round * MS;
            for &camera in &busy {
                room.push(camera, 0, 0, 1, now);
            }
            room.push(lone, 1, 1, 1, now);
            let batch = take_at(&mut room, now);
            assert!(!batch.is_empty(), "something is due");
            assert!(batch.iter().all(|frame| *frame == batch[0]), "of one shape: {batch:?}");
            served += batch.iter().filter(|&&frame| frame == 1).count();
        }
        // Its turn comes every 17 batches, though its frames come faster than the timeout.
        assert!((5..=6).contains(&served), "{served}");
    }

    #[test]
    fn cameras_of_every_shape_have_the_same_share() {
        let mut room = WaitingRoom::new(4, Duration::ZERO);
        let cameras: Vec<_> = (0..24).map(|_| room.join()).collect();
        // 18 cameras of shape 0, 5 of shape 1, one of shape 2.
        let shape = |camera: usize| [18, 23].iter().filter(|&&first| camera >= first).count();
        let mut served = vec![0usize; cameras.len()];
        for _ in 0..700 {
            for (number, &camera) in cameras.iter().enumerate() {
                room.push(camera, shape(number), number as u32, 1, Duration::ZERO);
            }
            take(&mut room).iter().for_each(|&number| served[number as usize] += 1);
        }
        let (least, most) = (served.iter().min(), served.iter().max());
        let (least, most) = (least.copied().unwrap_or(0), most.copied().unwrap_or(0));
        assert!(least > 0 && most <= 2 * least, "{served:?}");
    }

    #[test]
    fn camera_that_changes_its_shape_keeps_the_order_of_its_frames() {
        let mut room = WaitingRoom::new(4, Duration::ZERO);
        let (a, b) = (room.join(), room.join());
        for (frame, shape) in [(1, 0), (2, 0), (3, 1), (4, 0)] {
            room.push(a, shape, frame, 8, Duration::ZERO);
        }
        room.push(b, 1, 9, 8, Duration::ZERO);
        assert_eq!(take(&mut room), [1, 2], "4 is of that shape and comes after 3");
        assert_eq!(take(&mut room), [9, 3]);
        assert_eq!(take(&mut room), [4]);
    }

    #[test]
    fn shape_that_is_full_goes_before_the_timeout_of_another() {
        let mut room = WaitingRoom::new(2, 10 * MS);
        let cameras = [(); 3].map(|()| room.join());
        room.push(cameras[0], 1, 10, 1, Duration::ZERO);
        room.push(cameras[1], 0, 20, 1, 1 * MS);
        assert_eq!(room.due(2 * MS), Due::At(10 * MS), "two frames, of two shapes");
        assert_eq!(take_at(&mut room, 2 * MS), [] as [u32; 0]);
        room.push(cameras[2], 0, 30, 1, 3 * MS);
        assert_eq!(room.due(3 * MS), Due::Now);
        assert_eq!(take_at(&mut room, 3 * MS), [20, 30]);
        assert_eq!(room.due(3 * MS), Due::At(10 * MS));
        assert_eq!(take_at(&mut room, 10 * MS), [10]);
    }
}
