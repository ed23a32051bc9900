//! Protobuf's wire format: a message is a sequence of numbered fields.
//!
//! Fields that a reader does not know are kept as they are, so a message that is read and written
//! again is the same. See <https://protobuf.dev/programming-guides/encoding/>.

/// Bytes that are no message, or not a whole one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireError;

/// A field of a message: its number, and its value.
#[derive(Clone, Debug)]
pub struct Field<'a> {
    /// The number that the schema gives it.
    pub number: u64,
    /// Its value.
    pub value: Value<'a>,
}

/// The value of a field, by wire type.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// An integer, or a member of an enumeration.
    Varint(u64),
    /// Eight bytes.
    Fixed64(&'a [u8]),
    /// Four bytes.
    Fixed32(&'a [u8]),
    /// A text, a message or packed numbers, of the file that was read.
    Bytes(&'a [u8]),
    /// The same, made anew.
    Written(Vec<u8>),
}

impl<'a> Field<'a> {
    /// A text, a message or packed numbers; nothing where the field is another thing.
    pub fn bytes(&self) -> &[u8] {
        match &self.value {
            Value::Bytes(bytes) => bytes,
            Value::Written(bytes) => bytes,
            _ => &[],
        }
    }

    /// A text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    /// An integer; 0 where the field is another thing.
    pub fn varint(&self) -> u64 {
        if let Value::Varint(value) = self.value { value } else { 0 }
    }

    /// A field with new bytes.
    pub fn written(number: u64, bytes: Vec<u8>) -> Self {
        Self { number, value: Value::Written(bytes) }
    }

    /// A field with an integer.
    pub fn number(number: u64, value: u64) -> Self {
        Self { number, value: Value::Varint(value) }
    }
}

/// Takes an integer from the beginning of `bytes`.
pub fn read_varint(bytes: &mut &[u8]) -> Result<u64, WireError> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(WireError)?;
        *bytes = rest;
        value |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return Ok(value);
        }
    }
    Err(WireError)
}

/// Appends an integer.
fn write_varint(mut value: u64, to: &mut Vec<u8>) {
    while value >= 128 {
        to.push(value as u8 | 128);
        value >>= 7;
    }
    to.push(value as u8);
}

/// Takes `length` bytes from the beginning of `bytes`.
fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8], WireError> {
    let length = usize::try_from(length).map_err(|_| WireError)?;
    let (head, rest) = bytes.split_at_checked(length).ok_or(WireError)?;
    *bytes = rest;
    Ok(head)
}

/// The fields of a message, in order.
pub fn read(mut bytes: &[u8]) -> Result<Vec<Field<'_>>, WireError> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = read_varint(&mut bytes)?;
        let value = match key & 7 {
            0 => Value::Varint(read_varint(&mut bytes)?),
            1 => Value::Fixed64(take(&mut bytes, 8)?),
            2 => {
                let length = read_varint(&mut bytes)?;
                Value::Bytes(take(&mut bytes, length)?)
            }
            5 => Value::Fixed32(take(&mut bytes, 4)?),
            _ => return Err(WireError),
        };
        fields.push(Field { number: key >> 3, value });
    }
    Ok(fields)
}

/// The message of these fields.
pub fn write(fields: &[Field<'_>]) -> Vec<u8> {
    let mut to = Vec::new();
    for field in fields {
        let key = field.number << 3;
        match &field.value {
            Value::Varint(value) => {
                write_varint(key, &mut to);
                write_varint(*value, &mut to);
            }
            Value::Fixed64(bytes) => {
                write_varint(key | 1, &mut to);
                to.extend_from_slice(bytes);
            }
            Value::Fixed32(bytes) => {
                write_varint(key | 5, &mut to);
                to.extend_from_slice(bytes);
            }
            Value::Bytes(_) | Value::Written(_) => {
                let bytes = field.bytes();
                write_varint(key | 2, &mut to);
                write_varint(bytes.len() as u64, &mut to);
                to.extend_from_slice(bytes);
            }
        }
    }
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_that_is_read_and_written_is_the_same() {
        let bytes = include_bytes!("../../../tests/engines/tiny-int8.onnx");
        assert_eq!(write(&read(bytes).expect("a network")), bytes);
    }

    #[test]
    fn message_that_is_cut_off_is_refused() {
        let message = write(&[Field::number(1, 300), Field::written(2, b"text".to_vec())]);
        assert_eq!(read(&message).map(|fields| fields[1].text()).as_deref(), Ok("text"));
        for length in [1, 2, 4, message.len() - 1] {
            assert!(read(&message[..length]).is_err(), "{length}");
        }
        // A number of more than 64 bits, and a wire type that is no longer in use.
        assert!(read(&[8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]).is_err());
        assert!(read(&[0x0b]).is_err());
    }
}
