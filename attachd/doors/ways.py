"""The names of what a door's launcher half leaves with the keeper, for its server half."""

from attachd.keeper.caller import DOOR

ATTACH = f"{DOOR}attach"  #: the listening socket of the guests
PLACES = f"{DOOR}places"  #: memfd (`doors.places`)
GUEST = f"{DOOR}guest"  #: and a number: a guest's connection
