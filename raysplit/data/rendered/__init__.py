"""Data sets that are drawn by this package, for experiments without a download.

* `rooms`: `load_rooms`, rendered buildings with dense targets, the stand-in for Taskonomy.
* `room_images`: the images and targets of these buildings.
* `raycast`: ray casting of rooms and simple solids in NumPy.
* `shapes3d`: `load_shapes3d`, the published 3D Shapes or a rendering of them.
* `shapes3d_grid`: the six factors of 3D Shapes and the split by hue.
* `shapes3d_render`: the rendering of one 3D Shapes scene.
* `wrist`: `load_wrist`, movements by sensors that persons wear.
* `stand_ins`: `load_medic_like` and `load_faces_like`, drawings with the tasks of MEDIC and FACES.

`raysplit.data.datasets.load_dataset` has all of these by name.
"""
