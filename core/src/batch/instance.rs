//! The engine at one input size: its lanes until they are at work, and its slots, made when they
//! are needed, used again, and freed with the cameras that needed them.

use std::collections::HashMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::waiting::CameraId;
use crate::engine::{Engine, EngineError, EngineInfo, Lane, Slot};

/// The engine at one input size. Its batches are of that size alone.
pub struct Instance {
    index: usize,
    engine: Arc<dyn Engine>,
    /// One for each of the dispatcher's threads, until that takes it.
    lanes: Mutex<Vec<Box<dyn Lane>>>,
    slots: Mutex<Slots>,
}

/// Slots: those that are not in use are kept, at most as many as the present cameras have needed at
/// one time.
#[derive(Default)]
struct Slots {
    spare: Vec<Slot>,
    /// Spare slots and leased ones.
    total: usize,
    cameras: HashMap<CameraId, Usage>,
}

/// Slots that a camera holds.
#[derive(Default)]
struct Usage {
    now: usize,
    /// The most that it has held at one time.
    most: usize,
    /// Its pictures have another size by now: what it holds is not needed again.
    moved: bool,
}

impl Slots {
    /// How many slots may be kept.
    fn limit(&self) -> usize {
        self.cameras.values().map(|usage| usage.most).sum()
    }

    /// Removes the spare slots above the limit.
    fn surplus(&mut self) -> Vec<Slot> {
        let count = self.total.saturating_sub(self.limit()).min(self.spare.len());
        self.total -= count;
        self.spare.split_off(self.spare.len() - count)
    }
}

impl Instance {
    /// `engine`, the `index`-th size of a dispatcher, with a lane for each of its `threads`.
    pub(super) fn new(
        index: usize,
        engine: Arc<dyn Engine>,
        threads: usize,
    ) -> Result<Arc<Self>, EngineError> {
        let lanes = (0..threads).map(|_| engine.lane()).collect::<Result<_, _>>()?;
        Ok(Arc::new(Self { index, engine, lanes: Mutex::new(lanes), slots: Mutex::default() }))
    }

    /// The engine.
    pub fn engine(&self) -> &dyn Engine {
        &*self.engine
    }

    /// What the engine says of itself, its input size among it.
    pub fn info(&self) -> &EngineInfo {
        self.engine.info()
    }

    /// Its number among those of the dispatcher.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// A lane: one that is ready, or a new one.
    pub(super) fn lane(&self) -> Result<Box<dyn Lane>, EngineError> {
        let ready = self.lanes.lock().pop();
        ready.map_or_else(|| self.engine.lane(), Ok)
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock()
    }

    /// A slot for a frame of `camera`: a spare one where there is one.
    pub(super) fn lease(self: &Arc<Self>, camera: CameraId) -> Lease {
        let mut slots = self.lock();
        let usage = slots.cameras.entry(camera).or_default();
        usage.moved = false;
        usage.now += 1;
        usage.most = usage.most.max(usage.now);
        let spare = slots.spare.pop();
        slots.total += usize::from(spare.is_none());
        drop(slots);
        let mut lease = Lease { instance: self.clone(), camera, slot: spare };
        if lease.slot.is_none() {
            // Allocated without the lock.
            lease.put(Slot::best_for(&*self.engine));
        }
        lease
    }

    /// The camera's pictures have another size from now on. It may still hold slots, which are
    /// freed as they come back.
    pub(super) fn move_away(&self, camera: CameraId) {
        self.forget(camera, |slots| {
            if let Some(usage) = slots.cameras.get_mut(&camera) {
                usage.moved = true;
                usage.most = usage.now;
            }
        });
    }

    /// The camera is gone, and with it the slots that it needed.
    pub(super) fn leave(&self, camera: CameraId) {
        self.forget(camera, |slots| {
            slots.cameras.remove(&camera);
        });
    }

    fn forget(&self, camera: CameraId, change: impl FnOnce(&mut Slots)) {
        let mut slots = self.lock();
        change(&mut slots);
        slots.cameras.retain(|id, usage| *id != camera || usage.most > 0);
        let surplus = slots.surplus();
        drop(slots);
        // Freed without the lock.
        drop(surplus);
    }

    /// Slots that exist: leased and spare.
    pub(super) fn slots(&self) -> usize {
        self.lock().total
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("index", &self.index)
            .field("input", &self.info().input)
            .finish_non_exhaustive()
    }
}

/// A slot in use. Dropping it returns the slot to the engine's spare ones.
pub struct Lease {
    instance: Arc<Instance>,
    camera: CameraId,
    /// `None` while a lane works on it.
    slot: Option<Slot>,
}

impl Lease {
    /// The engine that it is for.
    pub(super) fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    /// Takes the slot out, to be put back with [`put`](Self::put). Where it never is, it is not
    /// counted any more.
    pub(super) fn take(&mut self) -> Option<Slot> {
        self.slot.take()
    }

    /// Puts the slot back that was taken out.
    pub(super) fn put(&mut self, slot: Slot) {
        self.slot = Some(slot);
    }
}

impl Deref for Lease {
    type Target = Slot;

    fn deref(&self) -> &Slot {
        self.slot.as_ref().expect("taken out by a lane alone, which hands no lease out meanwhile")
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Slot {
        self.slot.as_mut().expect("taken out by a lane alone, which hands no lease out meanwhile")
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("camera", &self.camera)
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut slot = self.slot.take();
        if let Some(slot) = &mut slot {
            // Without the lock: what was lent with a picture may end here.
            slot.clear();
        }
        let mut slots = self.instance.lock();
        if let Some(usage) = slots.cameras.get_mut(&self.camera) {
            usage.now -= 1;
            if usage.moved {
                usage.most = usage.now;
            }
            if usage.moved && usage.now == 0 {
                slots.cameras.remove(&self.camera);
            }
        }
        match slot {
            Some(slot) => slots.spare.push(slot),
            None => slots.total -= 1,
        }
        let surplus = slots.surplus();
        drop(slots);
        drop(surplus);
    }
}
