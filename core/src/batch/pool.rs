//! The slots of an engine: made when they are needed, used again, and freed with the cameras that
//! needed them.

use std::collections::HashMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::waiting::CameraId;
use crate::engine::{Engine, Slot};

/// Makes slots and keeps those that are not in use, at most as many as the present cameras have
/// needed at one time.
pub(super) struct Pool {
    engine: Arc<dyn Engine>,
    slots: Mutex<Slots>,
}

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

impl Pool {
    pub fn new(engine: Arc<dyn Engine>) -> Arc<Self> {
        Arc::new(Self { engine, slots: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock()
    }

    /// A slot for a frame of `camera`: a spare one where there is one.
    pub fn lease(self: &Arc<Self>, camera: CameraId) -> Lease {
        let mut slots = self.lock();
        let usage = slots.cameras.entry(camera).or_default();
        usage.now += 1;
        usage.most = usage.most.max(usage.now);
        let spare = slots.spare.pop();
        slots.total += usize::from(spare.is_none());
        drop(slots);
        let mut lease = Lease { pool: self.clone(), camera, slot: spare };
        if lease.slot.is_none() {
            // Allocated without the lock.
            lease.put(Slot::best_for(&*self.engine));
        }
        lease
    }

    /// The camera is gone, and with it the slots that it needed.
    pub fn leave(&self, camera: CameraId) {
        let mut slots = self.lock();
        slots.cameras.remove(&camera);
        let surplus = slots.surplus();
        drop(slots);
        // Freed without the lock.
        drop(surplus);
    }

    /// Slots that exist: leased and spare.
    pub fn total(&self) -> usize {
        self.lock().total
    }
}

/// A slot in use. Dropping it returns the slot to the engine's spare ones.
pub struct Lease {
    pool: Arc<Pool>,
    camera: CameraId,
    /// `None` while a lane works on it.
    slot: Option<Slot>,
}

impl Lease {
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
        let mut slots = self.pool.lock();
        if let Some(usage) = slots.cameras.get_mut(&self.camera) {
            usage.now -= 1;
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
