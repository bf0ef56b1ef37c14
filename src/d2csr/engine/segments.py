"""The trunk cut into passes, each short-sighted, so that it runs in row strips.

A channel attention needs the mean of a map over the whole image before its gate can be applied.
So the graph is cut at the input of every pooling:

    pass k: maps kept by earlier passes, means known -> the next map to be pooled, and its mean

One pass applies the gate of one block and runs the convolutions of the next, so every map is read
once and written once. Passes go depth first down the tree, so that few maps live at a time. What
depends on the image alone (the head) is computed anew in each pass that needs it: a map kept
would cost as much memory as any other, its convolution from three colours next to nothing. The
windows of local pooling are short-sighted: they are cut at the same places, and need no mean.
"""

from dataclasses import dataclass, replace
from typing import final

from openvino import Model, Node, Type
from openvino import opset13 as operations
from openvino.passes import ConstantFolding, Manager
from openvino.preprocess import PrePostProcessor

_POOLINGS = ("ReduceMean", "AvgPool")


@dataclass(frozen=True)
class Segment:
    """One walk over the image.

    Attributes:
        reads: maps needed, by name; the image is one of them.
        means: maps whose mean over the image is needed.
        writes: maps computed, to be kept.
        averaged: the one of them whose mean a later pass needs; None: none of them.
        frees: maps that nothing needs after this pass.
        halo_rows: rows needed beyond a strip so that its own are exact.
    """

    reads: tuple[str, ...]
    means: tuple[str, ...]
    writes: tuple[str, ...]
    averaged: str | None
    frees: tuple[str, ...]
    halo_rows: int


@final
class SegmentedTrunk:
    """A trunk as passes.

    Attributes:
        image: the name of the map that is the LR image.
        passes: in order.
        leaves: the maps that are the features, in the order of their channels.
        channels: map -> its channels.
    """

    def __init__(self, model: Model) -> None:
        """Cut a trunk (lr -> features)."""
        folding = Manager()
        folding.register_pass(ConstantFolding())  # of the reshapes around an ONNX bias
        folding.run_passes(model)
        graph = _Graph(model)
        self._model = model
        self.image = next(iter(graph.nodes))
        self.leaves = graph.leaves()
        self.channels = {
            name: node.get_output_partial_shape(0)[1].get_length()
            for name, node in graph.nodes.items()
        }
        self.passes = _passes(graph)

    @property
    def live_channels(self) -> int:
        """Return the channels of all maps kept at once, at the worst moment."""
        worst, live = 0, set[str]()
        for each in self.passes:
            live = (live | set(each.writes)) - set(each.frees)
            worst = max(worst, sum(self.channels[name] for name in live))
        return worst

    def model(self, chosen: Segment, *, half: bool) -> Model:
        """Return a pass's own graph: `reads`, then `means`, in; `writes`, then row means, out.

        Args:
            chosen: one of the passes.
            half: maps go in and out as bfloat16; the image and means are float32 always.
        """
        piece = self._model.clone()
        nodes = {node.get_friendly_name(): node for node in piece.get_ordered_ops()}
        means = [_mean_of(nodes[name]) for name in chosen.means]
        inputs = [_replaced(node) for node in (*(nodes[name] for name in chosen.reads), *means)]
        results = [nodes[name].output(0) for name in chosen.writes]
        if chosen.averaged is not None:
            columns = operations.constant([3])
            row_means = operations.reduce_mean(nodes[chosen.averaged], columns, keep_dims=True)
            results.append(row_means.output(0))
        model = Model(results, inputs, "pass")  # pyright: ignore[reportGeneralTypeIssues] # stubs
        if not half:
            return model
        wires = PrePostProcessor(model)
        for index, name in enumerate(chosen.reads):
            if name != self.image:
                wires.input(index).tensor().set_element_type(Type.bf16)
        for index in range(len(chosen.writes)):
            wires.output(index).tensor().set_element_type(Type.bf16)
        return wires.build()


@final
class _Graph:
    """The trunk's operations by name, every reader after what it reads; constants left out."""

    def __init__(self, model: Model) -> None:
        self.nodes = {
            node.get_friendly_name(): node
            for node in model.get_ordered_ops()
            if node.get_type_name() not in ("Constant", "Result")
        }
        self.parents = {name: self._parents(node) for name, node in self.nodes.items()}
        self.pooled = {self.parents[name][0] for name in self.nodes if self._opens_pooling(name)}

    def vectors(self) -> set[str]:
        """Return what has one value a channel: means and the gates made of them."""
        found: set[str] = set()
        for name, node in self.nodes.items():
            parents = self.parents[name]
            if is_mean(node) or (parents and found.issuperset(parents)):
                found.add(name)
        return found

    def leaves(self) -> tuple[str, ...]:
        """Return the maps that are joined to the features."""
        last = next(reversed(self.nodes))
        while self.nodes[last].get_type_name() == "Identity":
            (last,) = self.parents[last]
        return self.parents[last] if self.nodes[last].get_type_name() == "Concat" else (last,)

    def early(self) -> set[str]:
        """Return what depends on the image alone, before the first maps to be pooled."""
        found: set[str] = set()
        for name, parents in self.parents.items():
            if name not in self.pooled and found.issuperset(parents):
                found.add(name)
        return found

    def depth_first(self) -> list[str]:
        """Return the maps to be pooled and the leaves, each right after what it needs."""
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

    def rows_needed(self, target: str, *, kept: set[str]) -> dict[str, int]:
        """Return what one pass reads or computes for a map -> rows of it needed to each side.

        The walk back from the map ends at maps that are kept, at means, and at the image.
        """
        rows = {target: 0}
        for name in reversed(self.nodes):
            if name in rows and name not in kept and not is_mean(self.nodes[name]):
                reached = rows[name] + _reach_rows(self.nodes[name])
                for parent in self.parents[name]:
                    rows[parent] = max(rows.get(parent, 0), reached)
        return rows

    def _parents(self, node: Node) -> tuple[str, ...]:
        sources = [value.get_node() for value in node.input_values()]
        names = [source.get_friendly_name() for source in sources]
        return tuple(name for name in names if name in self.nodes)

    def _opens_pooling(self, name: str) -> bool:
        """Return whether an operation is a mean, or the first step of a window's mean."""
        if self.nodes[name].get_type_name() not in _POOLINGS:
            return False
        return self.nodes[self.parents[name][0]].get_type_name() not in _POOLINGS


def is_mean(node: Node) -> bool:
    """Return whether an operation averages the whole image."""
    return node.get_type_name() == "ReduceMean"


def _passes(graph: _Graph) -> tuple[Segment, ...]:
    """Return the passes, one for every map to be pooled and every leaf."""
    means = {graph.parents[name][0] for name, node in graph.nodes.items() if is_mean(node)}
    never_kept = graph.early() | graph.vectors()
    kept: set[str] = set()
    found: list[Segment] = []
    for target in graph.depth_first():
        rows = graph.rows_needed(target, kept=kept)
        ends = [name for name in rows if name in kept or not graph.parents[name]]
        computed = set(rows) - set(ends) - never_kept
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
                halo_rows=max(rows[name] for name in ends),
            )
        )
        kept.update(writes)
    return _with_frees(found, leaves=graph.leaves())


def _with_frees(passes: list[Segment], *, leaves: tuple[str, ...]) -> tuple[Segment, ...]:
    """Return the passes, each with the maps that no later one reads."""
    last_read = {name: index for index, each in enumerate(passes) for name in each.reads}
    written = {name for each in passes for name in each.writes} - set(leaves)
    return tuple(
        replace(each, frees=tuple(sorted(n for n in written if last_read[n] == index)))
        for index, each in enumerate(passes)
    )


def _reach_rows(node: Node) -> int:
    """Return how many rows an operation sees to each side."""
    kind = node.get_type_name()
    if kind == "Convolution":
        return (node.input_value(1).get_shape()[2] - 1) // 2
    return (node.get_attributes()["kernel"][0] - 1) // 2 if kind == "AvgPool" else 0


def _mean_of(node: Node) -> Node:
    """Return the operation that averages a map over the image."""
    readers = [target.get_node() for target in node.output(0).get_target_inputs()]
    (mean,) = [reader for reader in readers if is_mean(reader)]
    return mean


def _replaced(node: Node) -> Node:
    """Return the parameter that everybody reads in place of a node from now on."""
    shape, name = node.get_output_partial_shape(0), node.get_friendly_name()
    parameter = operations.parameter(shape, node.get_output_element_type(0), name)
    for reader in node.output(0).get_target_inputs():
        reader.replace_source_output(parameter.output(0))
    return parameter
