"""The house style of all figures: one colour a group, one a method, one line style a network."""

from plotly.subplots import make_subplots

from ...methods import METHODS

# Okabe and Ito's colours, which colour-blind readers can tell apart: head, medium, tail, then further groups.
PALETTE = ("#E69F00", "#009E73", "#0072B2", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
# The teacher's, then the methods' in their order; the first eight differ for colour-blind readers too.
METHOD_PALETTE = (
    *("#8c8c8c", "#D55E00", "#CC79A7", "#56B4E9", "#7B61D9", "#B5651D", "#999933", "#117733", "#882255", "#44AA99"),
    *("#DDAA33", "#CC6677", "#6699CC", "#AA4499", "#5DA271", "#C48A00", "#8C8CFF", "#E377C2", "#17BECF", "#BCBD22"),
    "#B07AA1",
)
TEACHER_LINE, STUDENT_LINE = "solid", "dash"
TEXT = "#6b7280"  # a grey that reads on a light and on a dark page
GRID = "rgba(128,128,128,0.25)"


def style(figure, *, title, x="", y="", height=380, **layout):
    """The house style: a title that says what to see, named axes, room for both themes."""
    figure.update_layout(
        title={"text": title, "font": {"size": 15}, "x": 0.01, "xanchor": "left"},
        height=height,
        margin={"l": 60, "r": 20, "t": 60, "b": 50},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": TEXT, "size": 13},
        colorway=PALETTE,
        template="none",  # the default template would add 7 kB to every stored figure
        legend={"bgcolor": "rgba(0,0,0,0)"},
        **layout,
    )
    figure.update_xaxes(gridcolor=GRID, zerolinecolor=GRID, linecolor=TEXT)
    figure.update_yaxes(gridcolor=GRID, zerolinecolor=GRID, linecolor=TEXT)
    if x:
        figure.update_xaxes(title=x)
    if y:
        figure.update_yaxes(title=y)
    return figure


def panels(rows, columns, headings, **spacing):
    """An empty figure of panels, with headings in a size that fits beside each other."""
    figure = make_subplots(rows, columns, subplot_titles=headings, **spacing)
    return figure.update_layout(
        annotations=[{"font": {"size": 14}, "text": note.text} for note in figure.layout.annotations]
    )


def plain_text(template=None, *, position="outside", **more):
    """For a bar: its text in one size, upright and whole, which plotly would shrink and turn to fit."""
    return {
        "texttemplate": template,
        "textposition": position,
        "textfont": {"size": 12},
        "textangle": 0,
        "constraintext": "none",
        "cliponaxis": False,
        **more,
    }


def group_colour(g):
    """The colour of the g-th group."""
    return PALETTE[g % len(PALETTE)]


def label_colour(label, position):
    """The colour of a curve or bar: a method's own wherever its name begins the label, else by position. The teacher's
    grey is nobody else's."""
    names = ["teacher", *METHODS]
    first = str(label).split(" ")[0].lower()
    place = names.index(first) if first in names else position
    return METHOD_PALETTE[place if place == 0 else 1 + (place - 1) % (len(METHOD_PALETTE) - 1)]
