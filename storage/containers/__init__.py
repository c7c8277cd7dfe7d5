"""One module per image container; `storage.container` is the door to them."""
