"""Compiles templates so that each loop iteration and each new value is counted in the environment."""

from collections.abc import Callable
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import TemplateSyntaxError


class BoundedGenerator(CodeGenerator):
    """Compiles templates into Python code whose loops and operators call the checks of BoundedEnvironment."""

    def visit_For(self, node: nodes.For, frame: Frame) -> None:  # noqa: N802
        """Compile a loop so that each iteration is counted, also if the loop's `if` skips it."""
        count = nodes.EnvironmentAttribute("step()", lineno=node.lineno)
        node.body.insert(0, nodes.ExprStmt(count, lineno=node.lineno))
        if node.test is not None:
            node.test = nodes.And(count, node.test, lineno=node.lineno)
        super().visit_For(node, frame)

    def visit_List(self, node: nodes.List, frame: Frame) -> None:  # noqa: N802
        """Compile a list so that its value passes through `made`, which counts its characters."""
        self._wrapped_in("made", super().visit_List, node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:  # noqa: N802
        """Compile a dictionary so that its value passes through `made`, which counts its characters."""
        self._wrapped_in("made", super().visit_Dict, node, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:  # noqa: N802
        """Compile a tuple so that its value passes through `made`; a tuple that is assigned to does not."""
        if node.ctx == "load":
            self._wrapped_in("made", super().visit_Tuple, node, frame)
        else:
            super().visit_Tuple(node, frame)

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:  # noqa: N802
        """Compile a slice so that its value passes through `sliced`, which counts its characters."""
        if isinstance(node.arg, nodes.Slice):
            self._wrapped_in("sliced", super().visit_Getitem, node, frame)
        else:
            super().visit_Getitem(node, frame)

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:  # noqa: N802
        """Compile a comparison so that the time is checked first, unless a side is a constant.

        For a comparison with `in` the time is always checked.
        """
        sides = [node.expr, *(operand.expr for operand in node.ops)]
        searches = any(operand.op in ("in", "notin") for operand in node.ops)
        if not searches and any(isinstance(side, nodes.Const) for side in sides):
            super().visit_Compare(node, frame)
            return
        self.write("(environment.tick() and ")
        super().visit_Compare(node, frame)
        self.write(")")

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802
        """Compile `~` so that its operands pass through `operands`, which counts their characters."""
        volatile = "(markup_join if context.eval_ctx.volatile else str_join)"
        plain = "markup_join" if frame.eval_ctx.autoescape else "str_join"
        self.write(f"{volatile if frame.eval_ctx.volatile else plain}(environment.operands((")
        for operand in node.nodes:
            self.visit(operand, frame)
            self.write(", ")
        self.write(")))")

    def visit_EvalContextModifier(self, node: nodes.EvalContextModifier, frame: Frame) -> None:  # noqa: N802
        """Compile `{% autoescape %}` with a constant; Jinja would evaluate an expression at compile time.

        Raises:
            TemplateSyntaxError: The tag has an expression.
        """
        if not all(isinstance(option.value, nodes.Const) for option in node.options):
            raise TemplateSyntaxError("autoescape must be true or false", node.lineno or 1)
        super().visit_EvalContextModifier(node, frame)

    def _wrapped_in(
        self, name: str, write: Callable[[Any, Frame], None], node: nodes.Node, frame: Frame
    ) -> None:
        """Write code that calls the environment's method `name` with a node's value as its argument.

        `write` writes the code of the node.
        """
        self.write(f"environment.{name}(")
        write(node, frame)
        self.write(")")
