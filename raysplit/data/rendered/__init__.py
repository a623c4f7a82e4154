"""Data sets that are drawn by this package or come with a library, for experiments without a download.

* `rooms`: `load_rooms`, rendered buildings with dense targets, the stand-in for Taskonomy.
* `room_images`: the images and targets of these buildings.
* `raycast`: ray casting of rooms and simple solids in NumPy.
* `shapes3d`: `load_shapes3d`, the published 3D Shapes or a rendering of them.
* `shapes3d_grid`: the six factors of 3D Shapes and the split by hue.
* `shapes3d_render`: the rendering of one 3D Shapes scene.
* `room_masks`: `load_room_masks`, rendered rooms with a mask of classes.
* `wrist`: `load_wrist`, drawn motion sensors of several persons.
* `bundled`: `load_digits`, `load_diabetes` and `load_random`, small sets without files.
* `stand_ins`: `load_medic_like` and `load_faces_like`, drawings with the tasks of MEDIC and FACES.

`raysplit.data.datasets.load_dataset` has all of these by name.
"""
