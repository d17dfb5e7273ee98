"""What stops a notebook's cell through no fault of the program, told in a line."""


class _Line:
    def _render_traceback_(self):
        """Let a notebook show the message without a traceback around it: IPython asks for this method."""
        return [f"{type(self).__name__}: {self}"]


class UserError(_Line, ValueError):
    """Something that the user can mend; the message says what, and what helps."""


class Interrupted(_Line, KeyboardInterrupt):
    """The user has stopped a training; the message says where, and how to go on."""
