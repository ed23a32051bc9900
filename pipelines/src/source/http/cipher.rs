//! Segments that are encrypted with AES-128 in CBC mode, RFC 8216, 4.3.2.4.

use aes::Aes128;
use bytes::{Bytes, BytesMut};
use cbc::Decryptor;
use cbc::cipher::{Array, BlockModeDecrypt, KeyIvInit};

use crate::source::Reason;

/// Bytes of a key, of an initialization vector, and of a block.
pub const BLOCK: usize = 16;

/// Decrypts one segment, piece by piece.
pub struct Cipher {
    mode: Decryptor<Aes128>,
    /// What has come and is not decrypted yet: never nothing once something has come, since the
    /// padding of PKCS #7 stands in the last block.
    held: BytesMut,
}

impl Cipher {
    /// A cipher for one segment.
    pub fn new(key: [u8; BLOCK], vector: [u8; BLOCK]) -> Self {
        Self { mode: Decryptor::new(&Array(key), &Array(vector)), held: BytesMut::new() }
    }

    /// Takes in what has come, and gives what is known of the segment by now.
    pub fn push(&mut self, data: &[u8]) -> Bytes {
        self.held.extend_from_slice(data);
        let known = self.held.len().saturating_sub(1) / BLOCK * BLOCK;
        let mut known = self.held.split_to(known);
        self.decrypt(&mut known);
        known.freeze()
    }

    /// The end of the segment.
    ///
    /// # Errors
    /// It is not encrypted in this way, or with another key.
    pub fn finish(mut self) -> Result<Bytes, Reason> {
        let mut last = std::mem::take(&mut self.held);
        if last.len() != BLOCK {
            let wrong = "a segment of its HLS stream is not encrypted as its playlist says";
            return Err(Reason::Other(wrong.to_owned()));
        }
        self.decrypt(&mut last);
        let padding = last.last().copied().unwrap_or_default();
        let length = usize::from(padding);
        if !(1..=BLOCK).contains(&length) || last[BLOCK - length..].iter().any(|b| *b != padding) {
            let wrong =
                "the key of its HLS stream does not fit: a segment is not what was encrypted";
            return Err(Reason::Other(wrong.to_owned()));
        }
        last.truncate(BLOCK - length);
        Ok(last.freeze())
    }

    fn decrypt(&mut self, whole: &mut [u8]) {
        let (blocks, _) = Array::slice_as_chunks_mut(whole);
        self.mode.decrypt_blocks(blocks);
    }
}

#[cfg(test)]
mod tests {
    use cbc::cipher::BlockModeEncrypt;

    use super::*;

    const KEY: [u8; BLOCK] = *b"0123456789abcdef";
    const VECTOR: [u8; BLOCK] = [7; BLOCK];

    fn encrypt(text: &[u8]) -> Vec<u8> {
        let padding = BLOCK - text.len() % BLOCK;
        let mut data = text.to_vec();
        data.resize(text.len() + padding, padding as u8);
        let (blocks, _) = Array::slice_as_chunks_mut(&mut data);
        cbc::Encryptor::<Aes128>::new(&Array(KEY), &Array(VECTOR)).encrypt_blocks(blocks);
        data
    }

    fn decrypt(data: &[u8], step: usize) -> Result<Vec<u8>, Reason> {
        let mut cipher = Cipher::new(KEY, VECTOR);
        let mut text: Vec<u8> = data.chunks(step).flat_map(|part| cipher.push(part)).collect();
        text.extend(cipher.finish()?);
        Ok(text)
    }

    #[test]
    fn segment_in_pieces_of_any_length_is_what_was_encrypted() {
        for length in [0, 1, 15, 16, 17, 188, 1000] {
            let text: Vec<u8> = (0..length).map(|place| place as u8).collect();
            let data = encrypt(&text);
            for step in [1, 5, 16, 31, 64, data.len()] {
                assert_eq!(decrypt(&data, step).unwrap(), text, "{length} bytes by {step}");
            }
        }
    }

    #[test]
    fn known_answer() {
        // `printf 'a vehicle' | openssl enc -aes-128-cbc -K 30313233343536373839616263646566
        //  -iv 07070707070707070707070707070707 | xxd -p`
        let data = 0x7120fc06b8d444a4ec21ce8daad23109_u128.to_be_bytes();
        assert_eq!(decrypt(&data, 16).unwrap(), b"a vehicle");
    }

    #[test]
    fn other_keys_and_what_is_cut_off_are_told() {
        let data = encrypt(b"of one camera, twenty bytes and more");
        for wrong in [&data[..0], &data[..15], &data[..40]] {
            assert!(decrypt(wrong, 7).unwrap_err().to_string().contains("as its playlist says"));
        }
        let mut cipher = Cipher::new([1; BLOCK], VECTOR);
        cipher.push(&data);
        assert!(cipher.finish().unwrap_err().to_string().contains("does not fit"));
    }
}
