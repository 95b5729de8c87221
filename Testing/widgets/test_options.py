"""Options of the library in the panels: what widgets say of them, and what the parameters mean."""

import enum

import panel
import pytest
import train_panel
from IPv2Lib import options


@pytest.fixture(params=["denoise", "train"])
def widget(request, host):
    """An open panel."""
    return train_panel.open_panel(host) if request.param == "train" else panel.open_panel(host)[0]


def test_parameters_and_widgets_are_what_the_library_declares(widget):
    shown = {each.property("SlicerParameterName"): each for each in vars(widget.ui).values()}
    checked = 0
    for called, (kind, name, part) in options.names_of(widget.OPTIONS).items():
        declared, default = options.declarations(kind)[name], options.default_in_panel(kind, name)
        value = widget._parameterNode.getValue(called)
        if default is not None:  # else the panel has a choice of its own beside it
            assert getattr(value, "value", value) == (default if part is None else default[part]), called
        if called not in shown:
            continue
        checked += 1
        assert shown[called].toolTip() == options.panel_words(kind, name), called
        if options.kind_of(kind, name).of in (int, float) and hasattr(shown[called], "setSuffix"):
            limits = shown[called].minimum(), shown[called].maximum()
            assert limits == options.panel_limits(declared), called
            assert shown[called].suffix().strip() == options.panel_unit(declared), called
    assert checked >= 10


def test_what_a_panel_means_is_what_was_set(widget):
    """Every option through the parameters of the panel and its widgets, and back."""
    from IPv2SlicerLib.widgets.Options import valuesOf

    parameters, wanted = widget._parameterNode, {}
    for called, (kind, name, _part) in options.names_of(widget.OPTIONS).items():
        declared, value = options.declarations(kind)[name], parameters.getValue(called)
        if isinstance(value, bool):
            wanted[called] = not value
        elif isinstance(value, enum.Enum):
            wanted[called] = list(type(value))[-1]
        elif isinstance(value, str):
            choices = declared.usual or declared.choices
            wanted[called] = choices[-1] if choices else "something"
        else:
            wanted[called] = type(value)(options.panel_limits(declared)[1])
        parameters.setValue(called, wanted[called])
    for kind in widget.OPTIONS:
        found, pairs = valuesOf(parameters, kind), options.parameters(kind)
        for called, (name, part) in pairs.items():
            value = getattr(wanted[called], "value", wanted[called])
            value = value / 100 if options.declarations(kind)[name].percent else value
            assert (found[name] if part is None else found[name][part]) == value, called
    for called, value in wanted.items():
        assert parameters.getValue(called) == value, called
