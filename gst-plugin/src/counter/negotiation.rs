//! What the neighbours of a camera's pads ask: caps, memory, latency, contexts.

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::VehicleCounterPad;
use super::arrival::MAX_FRAMES;
use super::camera::{Camera, Link};
use super::formats::StreamFormat;
use super::holding::HoldLimits;
use super::imp::{CAT, VehicleCounter};
use crate::cuda;

impl Camera {
    pub(super) fn sink_query(
        &self,
        imp: &VehicleCounter,
        pad: &VehicleCounterPad,
        query: &mut gst::QueryRef,
    ) -> bool {
        if query.is_serialized() && !self.wait_until_empty() {
            return false;
        }
        let answered = self.answer_sink_query(imp, pad, query);
        if query.is_serialized() {
            let mut state = self.lock();
            state.querying = false;
            self.wake(&mut state);
        }
        answered
    }

    fn answer_sink_query(
        &self,
        imp: &VehicleCounter,
        pad: &VehicleCounterPad,
        query: &mut gst::QueryRef,
    ) -> bool {
        if answer_context(imp, query) {
            return true;
        }
        match query.view_mut() {
            gst::QueryViewMut::Allocation(allocation) => {
                let _ = self.srcpad.peer_query(allocation.query_mut());
                self.announce_held(imp, allocation);
                true
            }
            gst::QueryViewMut::Drain(drain) => self.srcpad.peer_query(drain.query_mut()),
            gst::QueryViewMut::AcceptCaps(accept)
                if cuda::is_in(accept.caps()) && !self.takes_gpu_memory() =>
            {
                accept.set_result(false);
                true
            }
            _ => {
                let answered = gst::Pad::query_default(pad, Some(&*imp.obj()), query);
                if let gst::QueryViewMut::Caps(caps) = query.view_mut()
                    && !self.takes_gpu_memory()
                {
                    let host = caps.result_owned().map(|caps| cuda::without(&caps));
                    caps.set_result(&host.unwrap_or_else(gst::Caps::new_empty));
                }
                answered
            }
        }
    }

    /// Tells upstream how many of its frames are held here: so many more must there be.
    fn announce_held(&self, imp: &VehicleCounter, allocation: &mut gst::query::Allocation) {
        let (caps, _) = allocation.get();
        let format = caps.and_then(StreamFormat::of);
        let held = if self.is_live() {
            HoldLimits::of(imp.max_latency(), format.as_ref()).frames
        } else {
            self.link().as_ref().map_or(MAX_FRAMES, Link::depth)
        };
        let held = u32::try_from(held).unwrap_or(u32::MAX);
        let pools: Vec<_> = allocation.allocation_pools().collect();
        for (index, (pool, size, min, max)) in pools.iter().enumerate() {
            let max = if *max == 0 { 0 } else { max.saturating_add(held) };
            let min = min.saturating_add(held);
            allocation.set_nth_allocation_pool(index as u32, pool.as_ref(), *size, min, max);
        }
        if let ([], Some(format)) = (pools.as_slice(), &format) {
            let size = u32::try_from(format.info.size()).unwrap_or(u32::MAX);
            allocation.add_allocation_pool(None::<&gst::BufferPool>, size, held, 0);
        }
        gst::debug!(CAT, obj = self.sinkpad, "{held} frames are held at most");
    }

    /// Whether frames in GPU memory can be read where they are; before the engine has opened,
    /// whether that may come.
    fn takes_gpu_memory(&self) -> bool {
        self.link().map_or_else(cuda::is_available, |link| link.cuda.is_some())
    }

    /// Waits until everything that came before has been pushed: downstream is asked now. `false`
    /// while flushing.
    fn wait_until_empty(&self) -> bool {
        let mut state = self.lock();
        while !state.flushing && state.flow.is_ok() && (state.pushing || !state.queue.is_empty()) {
            state = self.wait(state);
        }
        state.querying = !state.flushing;
        state.querying
    }

    pub(super) fn src_event(
        &self,
        imp: &VehicleCounter,
        pad: &gst::Pad,
        event: gst::Event,
    ) -> bool {
        if let gst::EventView::Reconfigure(_) = event.view() {
            // A pad was linked: a camera that had no downstream goes on.
            let mut state = self.lock();
            if state.flow == Err(gst::FlowError::NotLinked) && !state.flushing {
                state.flow = Ok(gst::FlowSuccess::Ok);
                self.wake(&mut state);
            }
        }
        gst::Pad::event_default(pad, Some(&*imp.obj()), event)
    }

    pub(super) fn src_query(
        &self,
        imp: &VehicleCounter,
        pad: &gst::Pad,
        query: &mut gst::QueryRef,
    ) -> bool {
        if answer_context(imp, query) {
            return true;
        }
        let gst::QueryViewMut::Latency(latency) = query.view_mut() else {
            return gst::Pad::query_default(pad, Some(&*imp.obj()), query);
        };
        if !self.sinkpad.peer_query(latency.query_mut()) {
            return false;
        }
        let (live, min, max) = latency.result();
        if live {
            // A live frame is held this long at most, and no frame is thrown away before.
            let own = HoldLimits::of(imp.max_latency(), self.lock().format.as_ref()).latency;
            let own = gst::ClockTime::from_nseconds(own.as_nanos() as u64);
            latency.set(live, min + own, max.map(|max| max + own));
        }
        self.lock().live = Some(live);
        true
    }
}

/// Answers a query for the CUDA context. `false` where it is for another one, or there is none.
fn answer_context(imp: &VehicleCounter, query: &mut gst::QueryRef) -> bool {
    if let gst::QueryViewMut::Context(asked) = query.view_mut()
        && let Some(context) = imp.shared_context(asked.context_type())
    {
        asked.set_context(&context);
        return true;
    }
    false
}
