"""Domains of generated DB Bench tasks: land, traffic, nature, energy. All invented for this project."""

from __future__ import annotations

from envs.dbbench.domain_kinds import Category, Day, Domain, Entity, Link, Name, Number

__all__ = ["PLACES"]

_REGIONS = ("North", "South", "East", "West", "Central")
_PERSON = ("{first} {last}",)

PLACES = (
    Domain("mountains", "mountain", (
        Entity("range", "ranges", ("Ranges",), Name("name", "Range", ("{last} Range", "{adjective} Mountains")), (
            Category("country", "Country", "country"),
            Number("length", "Length (km)", 30, 2400),
        )),
        Entity("mountain", "mountains", ("Mountains", "Highest Peaks", "peaks"),
            Name("name", "Peak", ("{mount} {last}",), {"mount": ("Mount", "Pico", "Cima", "Sierra", "Ben")}), (
            Category("rock", "Rock", ("Granite", "Limestone", "Basalt", "Gneiss")),
            Number("height", "Height (m)", 980, 8400, additive=False),
            Number("prominence", "Prominence (m)", 120, 3900, additive=False),
            Number("first_ascent_year", "First ascent", 1786, 1985, additive=False),
            Number("huts", "Huts", 0, 12),
        ), (Link("range_id", "Range", "range", "range"),)),
        Entity("ascent", "ascents", ("Ascents",), None, (
            Category("route", "Route", ("North Face", "West Ridge", "Normal Route", "Couloir")),
            Day("ascent_date", "Date", 2012, 2024),
            Number("climbers", "Climbers", 1, 14),
            Number("hours", "Hours", 3, 60, 1),
        ), (Link("mountain_id", "Mountain", "mountain", "mountain"),)),
    )),
    Domain("bridges", "bridge", (
        Entity("river", "rivers", ("Rivers",), Name("name", "River", ("River {last}", "{adjective} River")), (
            Number("length", "Length (km)", 40, 3100),
            Category("region", "Region", _REGIONS),
        )),
        Entity("bridge", "bridges", ("Bridges", "Major Bridges", "bridge_register"),
            Name("name", "Bridge", ("{city} {end}",), {"end": ("Bridge", "Viaduct", "Crossing", "Footbridge")}), (
            Category("design", "Type", ("Suspension", "Arch", "Cable-stayed", "Truss", "Beam")),
            Category("material", "Material(s)", ("Steel", "Stone", "Concrete", "Timber")),
            Number("span", "Length (m)", 45, 2890),
            Number("opening_year", "Opened", 1851, 2021, additive=False),
            Number("vehicles", "Daily vehicles", 300, 84_000),
            Number("cost", "Cost (million)", 1, 900, 1),
        ), (Link("river_id", "Crosses", "river", "river"),)),
        Entity("inspection", "inspections", ("Inspections",), None, (
            Day("inspection_date", "Date", 2015, 2024),
            Category("inspector", "Inspector", "last"),
            Number("defects", "Defects", 0, 24),
            Number("hours", "Hours", 2, 40),
        ), (Link("bridge_id", "Bridge", "bridge", "bridge"),)),
    )),
    Domain("energy", "plant", (
        Entity("operator", "operators", ("Operators",), Name("name", "Operator", ("{company}",)), (
            Category("country", "Country", "country"),
            Number("staff", "Staff", 20, 9000),
        )),
        Entity("plant", "plants", ("Power Plants", "Energy Sites", "power_stations"),
            Name("name", "Plant", ("{city} {end}",), {"end": ("Ridge", "Point", "Valley", "Falls")}), (
            Category("source", "Source", ("Wind", "Solar", "Hydro", "Gas", "Biomass", "Nuclear")),
            Category("region", "Region", _REGIONS),
            Number("capacity", "Power ( MW )", 8, 2400),
            Number("commissioning_year", "Commissioned", 1961, 2023, additive=False),
            Number("output", "Output (GWh)", 12, 18_000, 1),
        ), (Link("operator_id", "Operator", "operator", "operator"),)),
        Entity("outage", "outages", ("Outages",), None, (
            Category("cause", "Cause", ("Storm", "Maintenance", "Grid fault", "Fuel")),
            Day("start_date", "Began", 2018, 2024),
            Number("hours", "Hours", 1, 300),
        ), (Link("plant_id", "Plant", "plant", "plant"),)),
    )),
    Domain("flights", "flight", (
        Entity("airline", "airlines", ("Airlines",), Name("name", "Airline", ("Air {city}", "{adjective} Wings")), (
            Number("fleet", "Fleet", 4, 320),
            Category("alliance", "Alliance", ("Meridian", "Blue Circle", "Independent")),
        )),
        Entity("airport", "airports", ("Airports",), Name("name", "Airport", ("{city} Airport", "{last} Field")), (
            Number("runways", "Runways", 1, 6),
            Number("elevation", "Elevation (m)", 1, 3300, additive=False),
        )),
        Entity("flight", "flights", ("Flights", "Departures", "flight_plan"),
            Name("code", "Flight", ("{a}{a} {n}",), {
                "a": tuple("ABCDEFGHKLMNPQRSTV"), "n": tuple(str(n) for n in range(103, 980, 9)),
            }), (
            Category("aircraft", "Aircraft", ("A320", "B737", "E190", "ATR 72", "A350")),
            Day("departure_date", "Date", 2021, 2024),
            Number("distance", "Distance (km)", 110, 9800),
            Number("passengers", "Pass. carried", 18, 390),
            Number("delay", "Delay (min)", 0, 240),
            Number("fuel", "Fuel (t)", 1, 90, 1),
        ), (
            Link("airline_id", "Airline", "airline", "airline"),
            Link("origin_id", "From", "origin airport", "airport"),
            Link("destination_id", "To", "destination airport", "airport"),
        )),
    )),
    Domain("ships", "ship", (
        Entity("port", "ports", ("Ports",), Name("name", "Port", ("Port {last}", "{city}")), (
            Category("country", "Country", "country"),
            Number("berths", "Berths", 2, 70),
        )),
        Entity("ship", "ships", ("Ships", "Shipping Register", "shipwrecks", "vessels"),
            Name("name", "Name of ship", ("{adjective} {noun}", "{first}", "Star of {city}")), (
            Category("kind", "Type", ("Tanker", "Ferry", "Trawler", "Container ship", "Tug")),
            Category("flag", "Nationality", "country"),
            Number("tonnage", "Tonnage (GRT)", 300, 88_000),
            Number("crew", "Crew", 4, 160),
            Number("construction_year", "Built", 1960, 2022, additive=False),
            Number("length", "Length (m)", 18, 380, 1, additive=False),
        ), (Link("port_id", "Home port", "home port", "port"),)),
        Entity("voyage", "voyages", ("Voyages",), None, (
            Day("departure_date", "Left on", 2019, 2024),
            Category("cargo", "Cargo", ("Grain", "Ore", "Timber", "Machines", "Fruit")),
            Number("miles", "Miles", 40, 9000),
            Number("tonnes", "Tonnes", 100, 40_000),
        ), (Link("ship_id", "Ship", "ship", "ship"),)),
    )),
    Domain("zoo", "animal", (
        Entity("enclosure", "enclosures", ("Enclosures",), Name("name", "Enclosure", ("{adjective} {place}",), {
            "place": ("House", "Island", "Paddock", "Aviary", "Pool"),
        }), (
            Number("area", "Area (m2)", 30, 9000),
            Category("climate", "Climate", ("Tropical", "Desert", "Temperate", "Polar")),
        )),
        Entity("animal", "animals", ("Zoo Animals", "Specimen Collection", "animals"),
            Name("name", "Animal", ("{first}",)), (
            Category("species", "Species", ("Lynx", "Otter", "Tapir", "Macaw", "Gibbon", "Penguin")),
            Category("sex", "Sex", ("female", "male")),
            Number("age", "Age", 1, 42, additive=False),
            Number("weight", "Weight (kg)", 1, 300, 1, additive=False),
            Number("daily_food", "Food per day (g)", 60, 9000),
            Day("arrival_date", "Date of arrival", 2005, 2024),
        ), (Link("enclosure_id", "Enclosure", "enclosure", "enclosure"),)),
        Entity("checkup", "checkups", ("Checkups",), None, (
            Category("vet", "Vet", "last"),
            Day("checkup_date", "Date", 2020, 2024),
            Number("temperature", "Temperature", 35, 42, 1, additive=False),
            Number("fee", "Fee ($)", 15, 480, 2),
        ), (Link("animal_id", "Animal", "animal", "animal"),)),
    )),
    Domain("radio", "station", (
        Entity("owner", "owners", ("Owners",), Name("name", "Owner", ("{company}",)), (
            Category("seat", "Seat", "city"),
            Number("revenue", "Revenue (million)", 1, 90, 1),
        )),
        Entity("station", "stations", ("Radio Stations", "stations", "Broadcast Register"),
            Name("call_sign", "Call sign", ("K{n}{a}{a}",), {
                "a": tuple("ABCDEFGHKMPRSTVXZ"), "n": tuple(str(n) for n in range(201, 300, 3)),
            }), (
            Category("city", "City of license", "city"),
            Category("class", "Class", ("A", "B", "C1", "D")),
            Number("frequency", "Frequency MHz", 87, 107, 1, additive=False),
            Number("power", "ERP W", 10, 9900),
            Number("listeners", "Listeners", 400, 310_000),
            Number("licence_year", "Licensed", 1958, 2021, additive=False),
        ), (Link("owner_id", "Owner", "owner", "owner"),)),
    )),
    Domain("farms", "field", (
        Entity("farmer", "farmers", ("Farmers",), Name("name", "Farmer", _PERSON), (
            Category("village", "Village", "city"),
            Number("age", "Age", 22, 81, additive=False),
        )),
        Entity("field", "fields", ("Fields", "Crop Survey", "field_register"),
            Name("name", "Field", ("{noun} {end}",), {"end": ("Meadow", "Acre", "Slope", "Bottom", "Corner")}), (
            Category("crop", "Crop", ("Barley", "Maize", "Potatoes", "Rye", "Rapeseed", "Clover")),
            Category("soil", "Soil", ("Clay", "Loam", "Sand", "Peat")),
            Number("area", "Area (ha)", 1, 80, 2),
            Number("yield", "Yield (t)", 2, 640),
            Number("distance", "Distance to farm (m)", 50, 9000),
            Day("sowing_date", "Sown on", 2020, 2024),
        ), (Link("farmer_id", "Farmer", "farmer", "farmer"),)),
        Entity("harvest", "harvests", ("Harvests",), None, (
            Day("harvest_date", "Date", 2018, 2024),
            Number("tonnes", "Tonnes", 1, 400, 1),
            Number("workers", "Workers", 1, 30),
        ), (Link("field_id", "Field", "field", "field"),)),
    )),
    Domain("elections", "candidate", (
        Entity("district", "districts", ("Districts",), Name("name", "District", ("{city}", "{city} {end}"), {
            "end": ("North", "South", "Central"),
        }), (
            Number("voters", "Registered voters", 9_000, 120_000),
            Category("region", "Region", _REGIONS),
        )),
        Entity("candidate", "candidates", ("Elected Members", "Election Results", "candidates"),
            Name("name", "Candidate", _PERSON), (
            Category("party", "Party", ("Civic Union", "Greens", "Labour List", "Liberals", "Reform")),
            Category("occupation", "Occupation", "job"),
            Number("votes", "Votes", 300, 48_000),
            Number("share", "Vote %", 1, 68, 1, additive=False),
            Number("age", "Age", 24, 79, additive=False),
            Number("spending", "Spending ($)", 900, 260_000),
        ), (Link("district_id", "District", "district", "district"),)),
    )),
)  # fmt: skip
