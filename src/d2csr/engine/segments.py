"""The trunk cut into segments, each of a finite receptive field, so that it runs in row windows.

A channel attention needs the mean of a map over the whole image before its gate can be applied.
So the graph is cut at the input of every pooling:

    segment k: stored maps, row means of pooled maps -> the next map to be pooled, and its row means

The mean of the row means is part of the segment that applies the gate, as in the whole trunk (see
`average_rows_first`), so that both sum in the same order.

One segment applies the gate of one block and runs the convolutions of the next, so every map is
read once and written once. Segments run depth first down the tree, so that few maps are stored at a
time. What depends on the image alone (the head) is computed again in each segment that needs it: a
stored map takes as much memory as any other, and a convolution of three colors little time. Graphs
with local pooling, whose windows are finite, are cut at the same places and need no mean.

Segments compute the bits of the whole trunk. OpenVINO's kernels give a row the same bits whatever
the height of their input, but it merges a convolution with the sum that follows, which rounds once
less, by rules of its own: it does if the convolution has no other reader and the other summand
isn't a convolution. A cut changes both. So a convolution that the whole trunk rounds before the sum
gets a second reader in segments too: one pixel of it is an output (`Segment.apart`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

from openvino import Model, Node, Output, Type
from openvino import opset13 as operations
from openvino.passes import ConstantFolding, Manager
from openvino.preprocess import PrePostProcessor

from d2csr.engine.backends.openvino_rewrites import average_rows_first

_RANK = 4  # of maps: 1, c, h, w


@dataclass(frozen=True)
class Segment:
    """A part of the trunk that runs over the whole image.

    Attributes:
        reads: names of the maps that it reads, the image among them.
        means: names of the maps whose row means it reads.
        writes: names of the maps that it writes.
        averaged: the one of these whose row means a later segment reads; None if there is none.
        frees: names of the maps that no later segment reads.
        apart: names of the convolutions that must not be merged with the sum that follows.
        halo_rows: rows beyond a window, on each side, that its results depend on.
    """

    reads: tuple[str, ...]
    means: tuple[str, ...]
    writes: tuple[str, ...]
    averaged: str | None
    frees: tuple[str, ...]
    apart: tuple[str, ...]
    halo_rows: int


@final
class SegmentedTrunk:
    """A trunk as a sequence of segments.

    Attributes:
        image: the name of the map that is the LR image.
        segments: in the order to run them.
        leaves: names of the maps that are the features, in the order of their channels.
        channels: number of channels of each map, by name.
    """

    def __init__(self, model: Model) -> None:
        """Cut the graph of a trunk (lr -> features)."""
        folding = Manager()
        folding.register_pass(ConstantFolding())  # of the reshapes around an ONNX bias
        folding.run_passes(model)
        average_rows_first(model)
        graph = _Graph(model)
        self._model = model
        self.image = next(iter(graph.nodes))
        self.leaves = graph.leaves()
        self.channels = {
            name: node.get_output_partial_shape(0)[1].get_length()
            for name, node in graph.nodes.items()
            if len(node.get_output_partial_shape(0)) == _RANK
        }
        self.segments = _cut(graph)

    @property
    def peak_channels(self) -> int:
        """Return the largest number of channels that are stored at the same time."""
        peak, stored = 0, set[str]()
        for each in self.segments:
            stored = (stored | set(each.writes)) - set(each.frees)
            peak = max(peak, sum(self.channels[name] for name in stored))
        return peak

    def model(self, segment: Segment, *, is_bf16: bool) -> Model:
        """Return a segment's graph: `reads`, then `means`, in; `writes`, then row means, out.

        Further outputs, of one pixel of `apart` each, are of no use to the caller.

        Args:
            segment: one of the segments.
            is_bf16: whether maps go in and out as bfloat16; image and means are always float32.
        """
        copy = self._model.clone()
        nodes = {node.get_friendly_name(): node for node in copy.get_ordered_ops()}
        means = [_find_mean(nodes[name]) for name in segment.means]
        inputs = [_to_parameter(node) for node in (*(nodes[n] for n in segment.reads), *means)]
        results = [nodes[name].output(0) for name in segment.writes]
        if segment.averaged is not None:
            results.append(_find_mean(nodes[segment.averaged]).output(0))
        pixels = range(len(results), len(results) + len(segment.apart))
        results += [_one_pixel(nodes[name]) for name in segment.apart]
        model = Model(results, inputs, "segment")  # pyright: ignore[reportGeneralTypeIssues]
        if not is_bf16:
            return model
        types = PrePostProcessor(model)
        for index, name in enumerate(segment.reads):
            if name != self.image:
                types.input(index).tensor().set_element_type(Type.bf16)
        for index in (*range(len(segment.writes)), *pixels):
            types.output(index).tensor().set_element_type(Type.bf16)
        return types.build()


@final
class _Graph:
    """The trunk's operations by name, each after its inputs; constants are left out."""

    def __init__(self, model: Model) -> None:
        self.nodes = {
            node.get_friendly_name(): node
            for node in model.get_ordered_ops()
            if node.get_type_name() not in ("Constant", "Result")
        }
        self.parents = {name: self._parents(node) for name, node in self.nodes.items()}
        self.pooled = {self.parents[name][0] for name in self.nodes if self._is_first_pooling(name)}
        self.readers: dict[str, list[str]] = {name: [] for name in self.nodes}
        for name, parents in self.parents.items():
            for parent in parents:
                self.readers[parent].append(name)

    def vectors(self) -> set[str]:
        """Return the names of all that has one value per channel: means, and gates made of them."""
        found: set[str] = set()
        for name, node in self.nodes.items():
            parents = self.parents[name]
            if is_mean(node) or (parents and found.issuperset(parents)):
                found.add(name)
        return found

    def leaves(self) -> tuple[str, ...]:
        """Return the names of the maps that are concatenated to the features."""
        last = next(reversed(self.nodes))
        while self.nodes[last].get_type_name() == "Identity":
            (last,) = self.parents[last]
        return self.parents[last] if self.nodes[last].get_type_name() == "Concat" else (last,)

    def early(self) -> set[str]:
        """Return the names of all maps before the first that are pooled."""
        found: set[str] = set()
        for name, parents in self.parents.items():
            if name not in self.pooled and found.issuperset(parents):
                found.add(name)
        return found

    def depth_first(self) -> list[str]:
        """Return the names of pooled maps and leaves, each right after those it depends on."""
        leaves = self.leaves()
        found: dict[str, None] = {}
        todo = list(reversed(leaves))
        while todo:
            name = todo[-1]
            missing = [parent for parent in self.parents[name] if parent not in found]
            if missing:
                todo.append(missing[0])
            else:
                found[todo.pop()] = None
        return [name for name in found if name in self.pooled or name in leaves]

    def halo_rows(self, target: str, *, stored: set[str]) -> dict[str, int]:
        """Return the halo of every map that a segment reads or computes for a target, in rows.

        The walk back from the target ends at stored maps, at means and at the image.
        """
        rows = {target: 0}
        for name in reversed(self.nodes):
            if name in rows and name not in stored and not is_mean(self.nodes[name]):
                needed = rows[name] + _receptive_rows(self.nodes[name])
                for parent in self.parents[name]:
                    rows[parent] = max(rows.get(parent, 0), needed)
        return rows

    def apart(self, computed: set[str], *, writes: Sequence[str]) -> tuple[str, ...]:
        """Return the convolutions that only a segment would merge with the sum that follows."""
        found: list[str] = []
        for name in self.nodes:
            readers = [reader for reader in self.readers[name] if reader in computed]
            if name not in computed or name in writes or len(readers) != 1:
                continue
            if self._is_convolution(name) and self._is_sum(readers[0]):
                others = [each for each in self.parents[readers[0]] if each != name]
                if len(self.readers[name]) > 1 or any(map(self._is_convolution, others)):
                    found.append(name)
        return tuple(found)

    def _is_convolution(self, name: str) -> bool:
        """Return whether a map comes from a convolution, its bias included if it has one."""
        if self._is_sum(name):
            return False
        last = self.parents[name][0] if self.nodes[name].get_type_name() == "Add" else name
        return self.nodes[last].get_type_name() == "Convolution"

    def _is_sum(self, name: str) -> bool:
        """Return whether an operation adds two maps."""
        return self.nodes[name].get_type_name() == "Add" and len(self.parents[name]) > 1

    def _parents(self, node: Node) -> tuple[str, ...]:
        sources = [value.get_node() for value in node.input_values()]
        names = [source.get_friendly_name() for source in sources]
        return tuple(name for name in names if name in self.nodes)

    def _is_first_pooling(self, name: str) -> bool:
        """Return whether an operation is a mean, or the first step of a mean over windows."""
        if self.nodes[name].get_type_name() == "AvgPool":
            return self.nodes[self.parents[name][0]].get_type_name() != "AvgPool"
        return is_mean(self.nodes[name])


def is_mean(node: Node) -> bool:
    """Return whether an operation averages the rows of a map, for the mean of the whole image."""
    return node.get_type_name() == "ReduceMean" and len(node.get_output_partial_shape(0)) == _RANK


def _cut(graph: _Graph) -> tuple[Segment, ...]:
    """Return one segment for every pooled map and every leaf."""
    means = {graph.parents[name][0] for name, node in graph.nodes.items() if is_mean(node)}
    never_stored = (graph.early() | graph.vectors()) - set(graph.leaves())
    stored: set[str] = set()
    found: list[Segment] = []
    for target in graph.depth_first():
        rows = graph.halo_rows(target, stored=stored)
        ends = [name for name in rows if name in stored or not graph.parents[name]]
        computed = set(rows) - set(ends) - never_stored
        read_later = {
            parent
            for name, parents in graph.parents.items()
            if name not in rows
            for parent in parents
        }
        writes = [name for name in graph.nodes if name in computed & (read_later | {target})]
        found.append(
            Segment(
                reads=tuple(ends),
                means=tuple(graph.parents[name][0] for name in rows if is_mean(graph.nodes[name])),
                writes=tuple(writes),
                averaged=target if target in means else None,
                frees=(),
                apart=graph.apart(set(rows) - set(ends), writes=writes),
                halo_rows=max(rows[name] for name in ends),
            )
        )
        stored.update(writes)
    return _with_frees(found, leaves=graph.leaves())


def _with_frees(segments: list[Segment], *, leaves: tuple[str, ...]) -> tuple[Segment, ...]:
    """Return the segments, each with the maps that no later one reads."""
    last_read = {name: index for index, each in enumerate(segments) for name in each.reads}
    written = {name for each in segments for name in each.writes} - set(leaves)
    return tuple(
        replace(each, frees=tuple(sorted(n for n in written if last_read[n] == index)))
        for index, each in enumerate(segments)
    )


def _receptive_rows(node: Node) -> int:
    """Return the rows beyond its own, on each side, that an operation reads."""
    kind = node.get_type_name()
    if kind == "Convolution":
        return (node.input_value(1).get_shape()[2] - 1) // 2
    return (node.get_attributes()["kernel"][0] - 1) // 2 if kind == "AvgPool" else 0


def _find_mean(node: Node) -> Node:
    """Return the operation that averages the rows of a map."""
    readers = [target.get_node() for target in node.output(0).get_target_inputs()]
    (mean,) = [reader for reader in readers if is_mean(reader)]
    return mean


def _one_pixel(node: Node) -> Output:
    """Return the first pixel of a map."""
    first, last, step = (operations.constant(values) for values in ([0, 0], [1, 1], [1, 1]))
    return operations.slice(node, first, last, step, operations.constant([2, 3])).output(0)


def _to_parameter(node: Node) -> Node:
    """Replace a node by a parameter of the same name and shape, and return the parameter."""
    shape, name = node.get_output_partial_shape(0), node.get_friendly_name()
    parameter = operations.parameter(shape, node.get_output_element_type(0), name)
    for reader in node.output(0).get_target_inputs():
        reader.replace_source_output(parameter.output(0))
    return parameter
