//! JPEG pictures in a stream of bytes, whatever stands between them: the boundaries and headers of
//! `multipart/x-mixed-replace`, with lengths that are right, wrong or missing, or garbage.

use bytes::{Buf, Bytes, BytesMut};

use crate::source::Reason;

/// Bytes of a picture, and of what stands between two.
const LONGEST: usize = 32 << 20;

/// Where in a picture the stream is, ITU-T T.81, annex B.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Between two pictures.
    Outside,
    /// At a marker.
    Marker,
    /// In entropy-coded data.
    Scan,
}

/// Takes pictures out of a stream.
#[derive(Debug)]
pub struct Splitter {
    buffer: BytesMut,
    place: Place,
    /// How far of `buffer`, which begins with the picture, has been looked at.
    at: usize,
    /// Bytes between two pictures so far.
    between: usize,
}

impl Default for Splitter {
    fn default() -> Self {
        Self { buffer: BytesMut::new(), place: Place::Outside, at: 0, between: 0 }
    }
}

impl Splitter {
    /// Takes in what has come.
    ///
    /// # Errors
    /// Nothing that comes is a picture.
    pub fn push(&mut self, data: &[u8]) -> Result<(), Reason> {
        if self.buffer.len().max(self.between) + data.len() > LONGEST {
            let most = LONGEST >> 20;
            return Err(Reason::Content(format!("no JPEG picture in {most} MiB that it sent")));
        }
        self.buffer.extend_from_slice(data);
        Ok(())
    }

    /// Whether a picture has begun that is not at its end.
    pub fn is_inside(&self) -> bool {
        self.place != Place::Outside
    }

    /// The next picture that is whole.
    pub fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.place {
                Place::Outside => self.begin()?,
                Place::Marker => {
                    if let Some(picture) = self.marker()? {
                        return Some(picture);
                    }
                }
                Place::Scan => self.scan()?,
            }
        }
    }

    /// Looks for the beginning of a picture: SOI, and another marker.
    fn begin(&mut self) -> Option<()> {
        match self.buffer.windows(3).position(|three| three == [0xff, 0xd8, 0xff]) {
            Some(place) => {
                self.between = 0;
                self.restart(place);
                Some(())
            }
            None => {
                let done = self.buffer.len().saturating_sub(2);
                self.between += done;
                self.buffer.advance(done);
                None
            }
        }
    }

    /// A picture begins at `place`; what was before it is none.
    fn restart(&mut self, place: usize) {
        self.buffer.advance(place);
        (self.place, self.at) = (Place::Marker, 2);
    }

    /// What looked like a picture is none: the next one is looked for behind its beginning.
    fn give_up(&mut self) {
        self.buffer.advance(2);
        (self.place, self.at) = (Place::Outside, 0);
    }

    /// Steps over a marker and its segment. Gives the picture at its end.
    fn marker(&mut self) -> Option<Option<Bytes>> {
        let head = self.buffer.get(self.at..self.at + 2)?;
        match (head[0], head[1]) {
            (0xff, 0xff) => self.at += 1,
            (0xff, 0xd9) => {
                let picture = self.buffer.split_to(self.at + 2).freeze();
                (self.place, self.at) = (Place::Outside, 0);
                return Some(Some(picture));
            }
            (0xff, 0xd8) => self.restart(self.at),
            (0xff, 0x01 | 0xd0..=0xd7) => self.at += 2,
            (0xff, kind @ 0xc0..) => {
                let length = self.buffer.get(self.at + 2..self.at + 4)?;
                let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
                if length < 2 {
                    self.give_up();
                    return Some(None);
                }
                // The segment is there before it is left: what is behind it is at its end.
                self.buffer.get(..self.at + 2 + length)?;
                self.at += 2 + length;
                if kind == 0xda {
                    self.place = Place::Scan;
                }
            }
            _ => self.give_up(),
        }
        Some(None)
    }

    /// Looks for the marker at the end of entropy-coded data.
    fn scan(&mut self) -> Option<()> {
        let Some(found) = self.buffer[self.at..].iter().position(|byte| *byte == 0xff) else {
            self.at = self.buffer.len();
            return None;
        };
        self.at += found;
        match self.buffer.get(self.at + 1)? {
            // A byte 0xff of data, and marks to start again from.
            0x00 | 0xd0..=0xd7 => self.at += 2,
            _ => self.place = Place::Marker,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture with a thumbnail of its own, stuffed bytes, restarts and two scans.
    fn picture(tail: u8) -> Vec<u8> {
        let thumbnail = [0xff, 0xd8, 0xff, 0xda, 0, 2, 1, 0xff, 0xd9];
        let mut picture = vec![0xff, 0xd8, 0xff, 0xe1, 0, 2 + thumbnail.len() as u8];
        picture.extend(thumbnail);
        picture.extend([0xff, 0xff, 0xc0, 0, 3, 7]);
        picture.extend([0xff, 0xda, 0, 3, 9, 1, 0xff, 0, 0xff, 0xd3, 2]);
        picture.extend([0xff, 0xc4, 0, 2, 0xff, 0xda, 0, 2, tail, 0xff, 0xd9]);
        picture
    }

    /// The pictures of a stream that comes in pieces of `size`.
    fn split(stream: &[u8], size: usize) -> Vec<Vec<u8>> {
        let mut splitter = Splitter::default();
        let mut pictures = Vec::new();
        for piece in stream.chunks(size) {
            splitter.push(piece).unwrap();
            pictures.extend(std::iter::from_fn(|| splitter.next()).map(Vec::from));
        }
        pictures
    }

    #[test]
    fn pictures_come_out_whole_whatever_stands_between_them() {
        let part = |tail| {
            let head = b"\r\n--b\r\nContent-Type: image/jpeg\r\nContent-Length: 12345\r\n\r\n";
            [&head[..], &picture(tail)].concat()
        };
        let streams = [
            [part(1), part(2), part(3)].concat(),
            [picture(1), picture(2), picture(3)].concat(),
            [vec![0xff; 9], picture(1), vec![0xff, 0xd8, 0], picture(2), picture(3)].concat(),
            // One that breaks off in its scan, and one in a segment too long for what follows.
            [picture(1), picture(9)[..picture(9).len() - 3].to_vec(), part(2), part(3)].concat(),
            [picture(1), vec![0xff, 0xd8, 0xff, 0xe0, 0, 1, 5], part(2), part(3)].concat(),
            [part(1), vec![0xff, 0xd8, 0xff, 0x17, 4, 4], part(2), vec![0xff, 0xd8, 0xff], part(3)]
                .concat(),
        ];
        for stream in &streams {
            for size in [1, 2, 3, 7, 64, 4096] {
                let pictures = split(stream, size);
                assert_eq!(pictures, [picture(1), picture(2), picture(3)], "{size}: {stream:x?}");
            }
        }
    }

    #[test]
    fn a_picture_that_has_not_ended_is_waited_for() {
        let whole = picture(1);
        for length in 0..whole.len() {
            let mut splitter = Splitter::default();
            splitter.push(&whole[..length]).unwrap();
            assert_eq!(splitter.next(), None, "{length}");
            assert_eq!(splitter.is_inside(), length > 2, "{length}");
            splitter.push(&whole[length..]).unwrap();
            assert_eq!(splitter.next().as_deref(), Some(&whole[..]), "{length}");
            assert!(!splitter.is_inside());
        }
    }

    #[test]
    fn memory_for_what_is_no_picture_has_a_bound() {
        let mut splitter = Splitter::default();
        let noise = vec![0x55; 1 << 20];
        let pushed = (0..64).take_while(|_| {
            let taken = splitter.push(&noise).is_ok();
            assert!(splitter.next().is_none() && splitter.buffer.len() < 4);
            taken
        });
        assert_eq!(pushed.count(), 32);
        let mut splitter = Splitter::default();
        splitter.push(&picture(1)[..picture(1).len() - 2]).unwrap();
        let pushed = (0..64).take_while(|_| {
            let taken = splitter.push(&noise).is_ok();
            assert!(splitter.next().is_none());
            taken
        });
        assert_eq!(pushed.count(), 31);
    }
}
