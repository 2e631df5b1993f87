"""The grammar of gear's names: parent, index, battery; and the ships' names that are none."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from tests.maritime.conftest import NOAA_DAY

from airflow_detection.maritime.tracks.gear_names import gear_name


@pytest.mark.parametrize(
    ("name", "identity", "battery"),
    [
        ("ZSY06159-32-85%", "ZSY06159-32", "85%"),
        ("ZSY06159-32-7%", "ZSY06159-32", "7%"),
        ("zsy06159-32 - 100 %", "ZSY06159-32", "100%"),
        ("ZSY06159_32_85%", "ZSY06159-32", "85%"),
        ("ZSY06159 32 85%@@", "ZSY06159-32", "85%"),
        ("ZSY06159-032-85 PERCENT", "ZSY06159-32", "85%"),
        ("ZSY06159-32 BAT 85%", "ZSY06159-32", "85%"),
        ("ZSY06159-32-V7.9", "ZSY06159-32", "7.9V"),
        ("ZSY06159-32-85", "ZSY06159-32", "85"),
        ("ZSY06159-32-", "ZSY06159-32", None),
        ("ZSY06159-32", "ZSY06159-32", None),
        ("ZSY06159-3-85%", "ZSY06159-3", "85%"),
        ("BINHAIYU15086-59_7.9", "BINHAIYU15086-59", "7.9"),
        ("BINHAIYU15086-59_8,1 V", "BINHAIYU15086-59", "8.1V"),
        ("BINHAIYU15086-59-12VOLT", "BINHAIYU15086-59", "12V"),
        ("SUDONGTAIYU15099-8V2", "SUDONGTAIYU15099", "8.2V"),
        ("SUDONGTAIYU15099-7V", "SUDONGTAIYU15099", "7V"),
        ("LU RONG YU 65658-05-97%", "LURONGYU65658-5", "97%"),
        ("ZHOU1-3-87%", "ZHOU1-3", "87%"),
        ("SHEN-12-80%", "SHEN12", "80%"),
        ("ZHE123 NET MARK 3", "ZHE123-3", None),
        ("12345-6-80%", "12345-6", "80%"),
        ("SIM ZSY06159-32-85%", "SIM ZSY06159-32", "85%"),
        ("ＺＳＹ０６１５９－３２－８５％", "ZSY06159-32", "85%"),  # noqa: RUF001 - full width on purpose
    ],
)
def test_the_battery_is_stripped_and_the_rest_is_the_identity(
    name: str, identity: str, battery: str | None
) -> None:
    gear = gear_name(name)
    assert gear is not None
    assert (gear.identity, gear.battery) == (identity, battery)


@pytest.mark.parametrize(
    "name",
    ["7V", "8V2", "12.5V", "85%", "7.9", "BAT85%", "NET MARK", "NETMARK", "NET-MARKER", "NET_MARK 12", "BOUY",
     "BUOY", "BUOYS", "BOUY 3", "BOUY-12-85%", "NETMARK-85%", "NETMARK7V", "AIS BUOY", "GEAR 4", "NET",
     "FISHING NET 2", "3-95%", "ABC-85%", "366000001-85%", "SIM BOUY"],
)  # fmt: skip
def test_gear_that_is_nobodys_in_particular_has_no_identity(name: str) -> None:
    gear = gear_name(name)
    assert gear is not None
    assert gear.identity is None


@pytest.mark.parametrize(
    "name",
    [None, "", " ", "@@@@", "POLAR SEA", "SD-1046", "WEEKS 551", "SWAN 45.2", "J 8.8", "LADY JANET", "PT73V",
     "U2V", "MARK V", "TENACITY IV", "GIVE 110%", "BUOY TENDER", "BUOYANT", "NETTIE", "NETHERLANDS", "MAGNET",
     "INTERNET", "SUDONGTAIYU15099", "CG 45702", "1234567", "STC-12", "ENSCO 75", "ROUTE 66", "KRISTEN & CO.",
     "ANNETTE_ADAMS", "SIM VESSEL 004", "SIM GEARED 004"],
)  # fmt: skip
def test_ships_are_no_gear(name: str | None) -> None:
    assert gear_name(name) is None


def test_no_ship_of_the_noaa_day_is_gear() -> None:
    vessels = Path(NOAA_DAY).with_name("vessels.csv")
    if not vessels.exists():
        pytest.skip("the NOAA day is not here: ../shared/data/noaa_ais_2020-01-01 is absent")
    with vessels.open(newline="", encoding="utf-8") as file:
        names = [row["vessel_name"] for row in csv.DictReader(file)]
    assert len(names) > 900
    assert [name for name in names if gear_name(name)] == []
