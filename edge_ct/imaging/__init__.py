"""Pixel work below the contract of the floor.

- `limits`             largest and smallest images that are decoded
- `image_headers`      format and size of an image, read before any pixel is decoded
- `png_pixels`         inflating a PNG faster than its decoder does
- `code_streams`       limits on JPEG, JPEG-LS, JPEG 2000 and RLE, read from their headers
- `dicom_structure`    limits on the elements and items of a DICOM object
- `slice_files`        the slice files of a folder, recognised by content, and what else the folder holds
- `slice_check`        whether a picture can be a CT slice
- `lungs`              lung fields of a slice
- `lung_box`           the rectangle around the lungs, in a quarter of a millisecond
- `exact_resize`       resizing that gives the same bytes on every machine
- `near_duplicates`    hashes that find nearly identical slices
- `degrade`            slices as worse exports would show them
- `phantom_anatomy`    the anatomy that phantom slices are drawn from
"""
