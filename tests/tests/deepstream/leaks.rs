//! Thousands of batches leave nothing behind.

use super::*;

/// Bytes that the process has from its allocator.
fn allocated() -> usize {
    // SAFETY: the function takes nothing and only counts.
    unsafe { libc::mallinfo2() }.uordblks
}

/// Runs `batches` batches of `source` through `counter`, over and over: nothing is left, and a
/// round allocates nothing more than the one before. What other tests of this process allocate
/// meanwhile is seen too: a leak is there in every round, they are not.
fn runs_without_a_leak(standin: &StandIn, batches: u32, source: &str, counter: &str) {
    let run = |batches: u32| {
        let description = format!(
            "standinsrc num-buffers={batches} {source} ! vehiclecounternvmm {counter} message-blob=true osd-mode=counts ! tee name=t \
             t. ! fakesink sync=false async=false t. ! fakesink sync=false async=false"
        );
        let pipeline =
            gst::parse::launch(&description).unwrap().downcast::<gst::Pipeline>().unwrap();
        vehiclecount_tests::run_to_end(&pipeline);
        assert_no_leak(pipeline);
        assert_eq!((meta::live(), standin.live_batches(), standin.unlocked_calls()), (0, 0, 0));
        assert_eq!((standin.mapped(), standin.live_surfaces()), (0, (0, 0)));
    };
    // What the allocator and GStreamer keep for themselves is there after the first round.
    run(batches / 2);
    // A leak of eight bytes for each batch would be more; the rest is what a run's threads leave to
    // the allocator.
    let allowed = (8 * batches as usize).max(40_000);
    let round = || {
        let before = allocated();
        run(batches);
        allocated().saturating_sub(before)
    };
    let mut grown = vec![round()];
    while grown.len() < 4 && grown.last() >= Some(&allowed) {
        grown.push(round());
    }
    assert!(
        grown.last() < Some(&allowed),
        "{grown:?} bytes more are allocated after rounds of {batches} batches"
    );
}

#[test]
fn ten_thousand_batches_leave_nothing_behind() {
    runs_without_a_leak(&standin(), 10_000, "sources=3 interval=1", "source=tensor-meta");
}

#[test]
fn thousands_of_copied_pictures_leave_nothing_behind() {
    let counter = "source=engine engine=scripted engine-id=endless";
    runs_without_a_leak(&standin(), 6000, "sources=2 memory-type=4 layout=1", counter);
}
