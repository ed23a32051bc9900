//! Taking elements to NULL.

use gst::prelude::*;

/// How often it is tried. The second attempt succeeds where the first one met an error of an
/// element that was still running.
const ATTEMPTS: usize = 3;

/// Takes `element` to NULL, and all elements in it. Says whether it is there.
///
/// One call of `set_state` is not enough where a bin within `element` fails on its way from READY
/// to PAUSED and an element in it posts an error once more, while it is stopped. The bin is in
/// READY already when `element`, in PAUSED, asks for READY, so GStreamer answers with the bin's
/// last result: a failure, since that error. `element` then fails to leave PAUSED. Disposed in that
/// state, it warns and does not clean up.
pub fn stop(element: &impl IsA<gst::Element>) -> bool {
    (0..ATTEMPTS).any(|_| {
        let result = element.set_state(gst::State::Null);
        // What rtspsrc made of itself while it was stopped may have missed that.
        if let Some(bin) = element.dynamic_cast_ref::<gst::Bin>() {
            for child in bin.iterate_recurse().into_iter().flatten() {
                let _ = child.set_state(gst::State::Null);
            }
        }
        result.is_ok() && element.current_state() == gst::State::Null
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bin_that_failed_on_its_way_to_paused_does_not_keep_others_from_stopping() {
        gst::init().unwrap();
        let make = |name| gst::ElementFactory::make(name).build().unwrap();
        let (inner, outer) = (gst::Bin::new(), gst::Bin::new());
        // No preroll: the outer bin goes on to PAUSED. The sink waits for a frame: the inner bin
        // does not.
        let (pace, sink) = (make("clocksync"), make("fakesink"));
        inner.add(&sink).unwrap();
        outer.add_many([&pace, inner.upcast_ref()]).unwrap();
        let _ = outer.set_state(gst::State::Playing);
        let state = |element: &gst::Bin| element.current_state();
        assert_eq!((state(&outer), state(&inner)), (gst::State::Paused, gst::State::Ready));
        gst::element_error!(sink, gst::ResourceError::Read, ["gone"]);
        let bus = gst::Bus::new();
        let failing = sink.clone();
        bus.set_sync_handler(move |_, message| {
            let is_sink = message.src() == Some(failing.upcast_ref());
            if is_sink && message.type_() == gst::MessageType::StateChanged {
                gst::element_error!(failing, gst::ResourceError::Read, ["gone again"]);
            }
            gst::BusSyncReply::Drop
        });
        outer.set_bus(Some(&bus));
        assert_eq!(outer.set_state(gst::State::Null), Err(gst::StateChangeError));
        assert_eq!(state(&outer), gst::State::Paused);
        assert!(stop(&outer));
        assert_eq!((state(&outer), state(&inner)), (gst::State::Null, gst::State::Null));
    }
}
